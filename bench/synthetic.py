"""Generate projects of any size, to measure how the time of commands grows and what many small images cost."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlimages.project.library import LIBRARY
from rlimages.project.project import MATRIX, Project, load_project
from rlimages.project.requirements_lock import lock_text
from rlimages.system.files import write_text

ROOT = Path(__file__).resolve().parents[1]
TOOLKITS = 10
BASES = 5
"""Number of base images of a large project; each exists for both processors."""
PACKAGES = 30
HASHES = 8
"""Packages of each lock, and hashes of each package: 21 kB, as the shorter locks of this project."""
DAY = "2024-01-01"
LARGE_TEMPLATE = """\
{% import "macros/stages.j2" as stages %}
{% import "macros/packages.j2" as packages %}
{% import "macros/hostname.j2" as hostname %}
{% import "macros/python.j2" as python %}
{% import "macros/image.j2" as image %}
{{ stages.bases(recipe, registry) }}
FROM base-${processor} AS os
{{ packages.install(cell.base, cell.system.run) }}

FROM os AS build
{{ packages.install(cell.base, cell.system.build) }}
{{ hostname.compile() }}
{{ python.environment(recipe) }}

FROM os
{{ python.copy_environment() }}
{{ image.own_files(recipe) }}
{{ image.environment(cell) }}
{{ image.labels(recipe, "Synthetic") }}
{{ image.entrypoint() }}
"""
SMALL_TEMPLATE = """\
{% import "macros/stages.j2" as stages %}
{{ stages.bases(recipe, registry) }}
FROM base-${processor}
RUN echo {{ cell.version }} >/version
COPY {{ cell.toolkit }}/rootfs/{{ cell.version }} /file
LABEL rlimages.cell="{{ cell.id }}"
"""


def large(root: Path, cells: int) -> Project:
    """Write a project with this number of cells, with packages, locks, five base images and both processors."""
    versions = -(-cells // (2 * BASES))
    bases = {f"base-{n}": _base(f"line{n}", f"debian:{n}", gpu=f"debian:{n}-gpu") for n in range(BASES)}
    toolkits: dict[str, Any] = {}
    for number in range(versions):
        name, left = f"tool{number % TOOLKITS}", cells - number * 2 * BASES
        images = [
            {"base": base, "repository": name, "tag": f"{number}-{base}-{{processor}}"}
            | ({"processors": ["cpu"]} if left - 2 * place == 1 else {})
            for place, base in enumerate(bases)
            if left - 2 * place > 0
        ]
        toolkits.setdefault(name, {})[f"1.{number}"] = {
            "as_of": DAY,
            "pip": [f"tool=={number}.0", "numpy==1.24.3", "gym>=0.17", "sagemaker-training<5"],
            "apt": {"run": ["python3", "tini"], "build": ["gcc", "libc6-dev", "python3-dev"]},
            "env": {"TOOL": str(number)},
            "images": images,
        }
    for part in ("macros", "build", "rootfs"):
        shutil.copytree(ROOT / "templates" / part, root / "templates" / part)
    shutil.copytree(ROOT / LIBRARY, root / LIBRARY)
    _write(root, bases, toolkits, LARGE_TEMPLATE)
    project = load_project(root / MATRIX, root)
    for inputs in project.lock_inputs(project.cells):
        pins = "".join(_pins(f"{inputs.cell.version} {inputs.cell.line}"))
        (root / inputs.cell.lock).parent.mkdir(parents=True, exist_ok=True)
        (root / inputs.cell.lock).write_text(lock_text(inputs, pins))
    return project


def small(root: Path, cells: int, base: str) -> Project:
    """Write a project with this number of tiny images: one command and one file each, FROM a local image."""
    bases = {"base": _base("small", base)}
    versions = {
        f"1.{number}": {
            "as_of": DAY,
            "images": [{"base": "base", "repository": "tiny", "tag": f"tiny-{number}"}],
        }
        for number in range(cells)
    }
    shutil.copytree(ROOT / "templates/macros", root / "templates/macros")
    _write(root, bases, {"tiny": versions}, SMALL_TEMPLATE)
    files = root / "tiny/rootfs"
    files.mkdir(parents=True)
    for version in versions:
        (files / version).write_text(f"{version}\n")
    shutil.copy(ROOT / ".dockerignore", root)
    return load_project(root / MATRIX, root)


def _base(line: str, image: str, gpu: str = "") -> dict[str, Any]:
    images = {"cpu": image} | ({"gpu": gpu} if gpu else {})
    return {"line": line, "image": images, "os": "debian12", "python": "3.11", "interpreter": "python3"}


def _write(root: Path, bases: dict[str, Any], toolkits: dict[str, Any], template: str) -> None:
    import yaml

    for toolkit in toolkits:
        write_text(root / "templates" / f"{toolkit}.Dockerfile.j2", template)
    document = {"version": 1, "tools": {"uv": "0.13.9"}, "bases": bases, "toolkits": toolkits}
    write_text(root / MATRIX, yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False))


def _pins(seed: str) -> Iterator[str]:
    """Yield the lines of a lock. Both processors of an image have the same, as is usual in real projects."""
    for number in range(PACKAGES):
        hashes = (hashlib.sha256(f"{seed} {number} {file}".encode()).hexdigest() for file in range(HASHES))
        yield f"package{number}==1.{number}" + "".join(f" \\\n    --hash=sha256:{digest}" for digest in hashes) + "\n"
