"""A project of one tiny cell with its own matrix, template and check, used through the command line."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from one_cell import WORKER

ROOT = Path(__file__).resolve().parents[2]
CELL = "tiny-1.0-cpu-debian"
REPOSITORY = f"tiny{WORKER}"
"""Tests run side by side on one engine: each worker has an image name of its own."""
MATRIX = f"""
version: 1
bases:
  debian-12:
    line: debian
    image: {{cpu: "debian:bookworm-slim"}}
    os: debian12
    python: "3.11"
    interpreter: sh
toolkits:
  tiny:
    "1.0":
      as_of: 2024-01-01
      pip: ["six==1.16.0"]
      images:
        - base: debian-12
          repository: {REPOSITORY}
          tag: tiny-1.0-cpu
          aliases: [tiny-cpu]
"""
TEMPLATE = """{% import "macros/stages.j2" as stages %}
{{ stages.bases(recipe, registry) }}
FROM base-${processor}
RUN echo VERSION
"""


def write_project(root: Path, targets: Mapping[str, Any]) -> None:
    """Write the project. Its image is different each time."""
    (root / "templates/macros").mkdir(parents=True)
    (root / "templates/smoke").mkdir()
    (root / "tiny/lock").mkdir(parents=True)
    (root / "templates/macros/stages.j2").write_text((ROOT / "templates/macros/stages.j2").read_text())
    (root / "templates/tiny.Dockerfile.j2").write_text(TEMPLATE.replace("VERSION", f"{time.time_ns()}"))
    (root / "templates/smoke/check_good.py").write_text("echo good; exit 0\n")
    (root / "build_matrix.yaml").write_text(MATRIX)
    (root / "targets.yaml").write_text(json.dumps({"version": 1, "targets": targets}))
    for command in ("render", "lock"):
        assert rlimages(root, command).returncode == 0


def rlimages(root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a project."""
    return subprocess.run(
        [sys.executable, "-m", "rlimages", *arguments],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
