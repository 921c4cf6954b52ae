#!/usr/bin/env python3
"""How long a job takes from `docker run IMAGE train` to the first line of its script, in the open images and in others.

    bench/startup.py [--rounds N] [--limit SECONDS] [CELL[=IMAGE] ...]

The others are the image of Ray 2.9.3 with sagemaker-training 4.9.0 installed, and started by its own `train`: once
without bytecode, as uv leaves it, once with. They are built for the occasion and removed. Beside each image stands the
same script under Python alone, which no `train` can beat. Containers have no network; rounds are interleaved, so that
whatever else the machine does hits all alike. Prints a table in Markdown; exits with 1 if an open image is slower than
the limit.
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
    """One way to start the script, and what it took each time, in seconds."""

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
    """Build the images to compare with; afterwards they are gone."""
    with tempfile.TemporaryDirectory() as folder:
        lent = prepare_contexts(Path(folder), {"bench": TOOLKIT}, environ=os.environ, home=Path.home())
        context = f"buildhost={lent.folders.get('bench', folder)}"
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
    """What SageMaker mounts at /opt/ml for a job of one host."""
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
    """Seconds from `docker run` to the first line of the script."""
    options = ["--rm", "--network=none", "--add-host=algo-1:127.0.0.1", "-e", "AWS_REGION=us-west-2"]
    argv = ["docker", "run", *options, "-v", f"{folder}:/opt/ml", row.image, *row.words]
    began = time.time()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    _, found, after = done.stdout.partition("first line at ")
    if not found:
        sys.exit(f"startup.py: the script did not run in {row.image}:\n{done.stderr[-2000:]}")
    return float(after.split()[0]) - began


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
    parser.add_argument("--limit", type=float, default=0.7, help="seconds")
    parser.add_argument("cells", nargs="*", metavar="CELL[=IMAGE]", help="ids or patterns; all open ones for CPU")
    words = parser.parse_args()
    project = load_project(ROOT / "build_matrix.yaml", ROOT)
    asked = dict(word.partition("=")[::2] for word in words.cells or ["*-cpu-debian"])
    images = {cell.id: asked.get(cell.id) or cell.local_name for cell in select_cells(project.cells, tuple(asked))}
    (inside,) = select_cells(project.cells, [INSIDE])

    with others(inside.local_name), job() as folder:
        rows = [Row(title=f"{TOOLKIT}, {state}", image=name, words=["train"]) for name, state in OTHERS.items()]
        rows += [Row(title=f"`{cell}`", image=image, words=["train"], cell=cell) for cell, image in images.items()]
        script = ["python", "/opt/ml/code/first.py"]
        bare = {image: Row(title="", image=image, words=script) for image in {inside.local_name, *images.values()}}
        for number in range(words.rounds + 1):
            for row in [*rows, *bare.values()]:
                seconds = first_line(row, folder)
                if number:  # the first round warms the page cache
                    row.seconds.append(seconds)
            print(f"round {number} of {words.rounds}", file=sys.stderr)
    print(f"{words.rounds} rounds, {os.cpu_count()} processors, Linux {platform.release()}\n")
    print(*table(rows, lambda row: bare.get(row.image, bare[inside.local_name]), rows[0].median), sep="\n")
    print("\nPython alone: " + ", ".join(f"{row.median:.2f} s" for row in bare.values()))
    slow = [row.cell for row in rows if row.cell and row.median > words.limit]
    print(f"slower than {words.limit} s: {', '.join(slow) or 'none'}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
