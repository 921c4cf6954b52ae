#!/usr/bin/env python3
"""Compare the sizes of the Debian images with a plain installation of the same lock on the same base image.

    bench/sizes.py [--json FILE] [CELL[=IMAGE] ...]

The plain image is what a careful person writes by hand: the distribution's packages without recommended ones and
package lists, a virtual environment, pip without its cache. The compilers that some packages need stay in it. It has no
`train`, no `serve` and no files of this project. It is built for the comparison and removed. The table shows where pip
can't install a lock. Prints a table in Markdown. The exit code is 1 if an image is missing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rlimages.build.host_context import prepare_contexts
from rlimages.matrix.cell import Cell, select_cells
from rlimages.project.project import load_project

ROOT = Path(__file__).resolve().parents[1]
PLAIN = "dev-bench-sizes"
RECIPE = """
FROM scratch AS buildhost
FROM {base}
RUN apt-get update -qq && \\
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends {packages} && \\
    rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,source=templates/build/buildhost.sh,target=/run/build/buildhost.sh \\
    --mount=type=bind,source={lock},target=/run/build/lock.txt --mount=type=bind,from=buildhost,target=/run/buildhost \\
    . /run/build/buildhost.sh && unset CFLAGS CXXFLAGS && python3 -m venv /opt/venv && \\
    printf '%s\\n' {constraints} >/opt/constraints.txt && \\
    env PIP_CONSTRAINT=/opt/constraints.txt PIP_BUILD_CONSTRAINT=/opt/constraints.txt \\
    /opt/venv/bin/pip install --no-cache-dir --no-deps -r /run/build/lock.txt
ENV PATH=/opt/venv/bin:$PATH
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell: bytes of its image and of the plain image, which is 0 if pip could not install the lock."""

    cell: str
    image: str
    ours: int
    plain: int

    @property
    def ratio(self) -> float:
        return self.ours / self.plain


def docker(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], input=stdin, capture_output=True, text=True, check=False, cwd=ROOT)


def size(image: str) -> int:
    """Return the unpacked size of an image in bytes; 0 if there is none."""
    found = docker("image", "inspect", "--format", "{{.Size}}", image)
    return int(found.stdout) if found.returncode == 0 else 0


def plain(cell: Cell) -> int:
    """Build the plain image of a cell, remove it and return its size."""
    recipe = RECIPE.format(
        base=cell.base.image,
        packages=" ".join(sorted({*cell.system.run, *cell.system.build})),
        lock=cell.lock,
        constraints=" ".join(f"'{requirement}'" for requirement in cell.requirements.build) or "''",
    )
    with tempfile.TemporaryDirectory() as folder:
        locks = {"bench": (ROOT / cell.lock).read_text()}
        contexts = prepare_contexts(Path(folder), locks, environ=os.environ, home=Path.home())
        words = ["buildx", "build", "--progress=plain", "--provenance=false", "--load", "--tag", PLAIN, "--file", "-"]
        words += ["--build-context", f"buildhost={contexts.folders.get('bench', folder)}", "."]
        built = docker(*words, stdin=recipe)
    if built.returncode:
        print(f"{cell.id}: pip cannot install its lock:\n{built.stderr[-1500:]}", file=sys.stderr)
        return 0
    try:
        return size(PLAIN)
    finally:
        docker("image", "rm", PLAIN)


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| cell | ours, MB | plain pip, MB | ours ÷ plain |"
    yield "| --- | ---: | ---: | ---: |"
    for row in rows:
        plain_columns = f"{row.plain / 1e6:.0f} | {row.ratio:.2f}" if row.plain else "does not install | –"
        yield f"| `{row.cell}` | {row.ours / 1e6:.0f} | {plain_columns} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the sizes to, in bytes")
    parser.add_argument(
        "cells", nargs="*", metavar="CELL[=IMAGE]", help="ids or patterns; by default the Debian CPU cells"
    )
    options = parser.parse_args()
    project = load_project(ROOT / "build_matrix.yaml", ROOT)
    images = dict(argument.partition("=")[::2] for argument in options.cells or ["*-cpu-debian"])
    rows = []
    missing = []
    for cell in select_cells(project.cells, tuple(images)):
        image = images.get(cell.id) or cell.local_name
        if not (ours := size(image)):
            missing.append(f"{image} ({cell.id})")
            continue
        rows.append(Row(cell=cell.id, image=image, ours=ours, plain=plain(cell)))
        print(f"{cell.id}: {rows[-1].ours} and {rows[-1].plain} bytes", file=sys.stderr)
    print(*table(rows), sep="\n")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    if missing:
        print(f"not in the local store: {', '.join(missing)}; build them with rlimages build", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
