#!/usr/bin/env python3
"""Measure the time from `docker run IMAGE train` to the first line of the script, in the Debian images and in others.

    bench/startup.py [--rounds N] [--limit SECONDS] [CELL[=IMAGE] ...]

The others are the image of Ray 2.9.3 with sagemaker-training 4.9.0, started by its `train`: once without bytecode, as
uv leaves it, and once with bytecode. They are built for the comparison and removed. The same script is also run by
Python alone in each image, which no `train` can beat. Containers have no network. The images take turns in each round,
so that other work of the machine affects all of them. Prints a table in Markdown. The exit code is 1 if an image is
slower than the limit.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rlimages.build.host_context import prepare_contexts
from rlimages.matrix.cell import select_cells
from rlimages.project.project import load_project

ROOT = Path(__file__).resolve().parents[1]
TOOLKIT = "sagemaker-training==4.9.0"
INSIDE = "ray-2.9.3-tf-cpu-debian"
OTHERS = {"dev-bench-plain": "no bytecode", "dev-bench-bytecode": "bytecode"}
RECIPE = """
FROM scratch AS buildhost
FROM {image} AS installed
RUN --mount=type=bind,source=templates/build,target=/run/build --mount=type=bind,from=buildhost,target=/run/buildhost \\
    --mount=type=tmpfs,target=/var/cache/apt --mount=type=tmpfs,target=/var/lib/apt/lists \\
    /run/build/system-packages.sh apt gcc libc6-dev python3-dev && . /run/build/buildhost.sh && \\
    python -m pip install --quiet --no-deps --no-compile {toolkit}
ENTRYPOINT []
FROM installed AS dev-bench-plain
RUN find /opt/venv -name __pycache__ -prune -exec rm -r {{}} +
FROM installed AS dev-bench-bytecode
RUN python -m compileall -qq -j 0 /opt/venv/lib || echo "not all of it is for this Python"
"""
SCRIPT = 'import time\nprint("first line at %.4f" % time.time())\n'
TIMEOUT = 120


@dataclass(kw_only=True)
class Row:
    """One way to start the script, and the seconds of each round."""

    title: str
    image: str
    words: Sequence[str]
    cell: str = ""
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def docker(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run(["docker", *words], input=stdin, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(f"startup.py: docker {' '.join(words)}\n{done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def others(image: str) -> Iterator[None]:
    """Build the images to compare with, and remove them at the end."""
    with tempfile.TemporaryDirectory() as folder:
        contexts = prepare_contexts(Path(folder), {"bench": TOOLKIT}, environ=os.environ, home=Path.home())
        context = f"buildhost={contexts.folders.get('bench', folder)}"
        try:
            for name in OTHERS:
                words = ("buildx", "build", "-q", "--provenance=false", "--load", "--build-context", context)
                recipe = RECIPE.format(image=image, toolkit=TOOLKIT)
                docker(*words, "-t", name, "--target", name, "-f", "-", ".", stdin=recipe)
            yield
        finally:
            subprocess.run(["docker", "rmi", "-f", *OTHERS], capture_output=True, check=False)


@contextmanager
def job() -> Iterator[Path]:
    """Provide the folder that SageMaker mounts at /opt/ml for a job with one host."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("code", "input/config", "input/data", "model", "output/data"):
            (folder / part).mkdir(parents=True)
        (folder / "code/first.py").write_text(SCRIPT)
        hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
        configs = {
            "hyperparameters": {"sagemaker_program": '"first.py"'},
            "inputdataconfig": {},
            "resourceconfig": hosts,
        }
        for file, config in configs.items():
            (folder / f"input/config/{file}.json").write_text(json.dumps(config))
        yield folder


def first_line(row: Row, folder: Path) -> float:
    """Return the seconds from `docker run` to the first line of the script."""
    options = ["--rm", "--network=none", "--add-host=algo-1:127.0.0.1", "-e", "AWS_REGION=us-west-2"]
    argv = ["docker", "run", *options, "-v", f"{folder}:/opt/ml", row.image, *row.words]
    started = time.time()
    container = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    _, found, after = container.stdout.partition("first line at ")
    if not found:
        sys.exit(f"startup.py: the script did not run in {row.image}:\n{container.stderr[-2000:]}")
    return float(after.split()[0]) - started


def table(rows: Sequence[Row], bare: Callable[[Row], Row], slowest: float) -> Iterator[str]:
    yield "| `docker run … train` to the first line | median s | lowest | highest | × Python alone | × faster |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        cells = [f"{row.median:.2f}", f"{min(row.seconds):.2f}", f"{max(row.seconds):.2f}"]
        cells += [f"{row.median / bare(row).median:.1f}", f"{slowest / row.median:.1f}"]
        yield f"| {row.title} | {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=0.7, help="limit in seconds for each Debian image (%(default)s)")
    parser.add_argument(
        "cells", nargs="*", metavar="CELL[=IMAGE]", help="ids or patterns; by default the Debian CPU cells"
    )
    options = parser.parse_args()
    project = load_project(ROOT / "build_matrix.yaml", ROOT)
    arguments = dict(argument.partition("=")[::2] for argument in options.cells or ["*-cpu-debian"])
    images = {
        cell.id: arguments.get(cell.id) or cell.local_name for cell in select_cells(project.cells, tuple(arguments))
    }
    (inside,) = select_cells(project.cells, [INSIDE])

    with others(inside.local_name), job() as folder:
        rows = [Row(title=f"{TOOLKIT}, {state}", image=name, words=["train"]) for name, state in OTHERS.items()]
        rows += [Row(title=f"`{cell}`", image=image, words=["train"], cell=cell) for cell, image in images.items()]
        script = ["python", "/opt/ml/code/first.py"]
        bare = {image: Row(title="", image=image, words=script) for image in {inside.local_name, *images.values()}}
        for number in range(options.rounds + 1):
            for row in [*rows, *bare.values()]:
                seconds = first_line(row, folder)
                if number:  # the first round warms the page cache
                    row.seconds.append(seconds)
            print(f"round {number} of {options.rounds}", file=sys.stderr)
    print(f"{options.rounds} rounds, {os.cpu_count()} processors, Linux {platform.release()}\n")
    print(*table(rows, lambda row: bare.get(row.image, bare[inside.local_name]), rows[0].median), sep="\n")
    print("\nPython alone: " + ", ".join(f"{row.median:.2f} s" for row in bare.values()))
    slow = [row.cell for row in rows if row.cell and row.median > options.limit]
    print(f"slower than {options.limit} s: {', '.join(slow) or 'none'}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
