"""The bill of materials of one image of the local store: find the image and its Python, look inside."""

import os
from pathlib import Path

from rlimages import inventory, project
from rlimages.docker_engine import DockerEngine
from rlimages.errors import ToolError
from rlimages.lookup import find_image
from rlimages.runs import STATE
from rlimages.shell import Stop

CELL = "rlimages.cell"


def describe(word: str, interpreter: str | None, *, matrix: Path | None, stop: Stop) -> str:
    """CycloneDX JSON for a cell's image, or any other with a Python. Raises `FactoryError` where there is none."""
    loaded = project.load(matrix, Path.cwd())
    engine = DockerEngine(run=f"sbom-{os.getpid()}", stop=stop)
    try:
        image = engine.inspect(find_image(word, engine, matrix, Path.cwd()))
        if image is None:
            raise ToolError(f"the image of {word} has just gone from the local store")
        known = {cell.id: cell.base.interpreter for cell in loaded.cells}
        python = interpreter or known.get(image.labels.get(CELL, ""), "python3")
        folder = loaded.root / STATE / "inventory" / image.image.id.removeprefix("sha256:")[:12]
        return inventory.bill_of_materials(image, python, engine, root=loaded.root, folder=folder)
    finally:
        engine.close()
