"""The layers of images of the local store: find what words mean, and hold it against the matrix's other cells."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rlimages import accepting
from rlimages.docker_engine import DockerEngine
from rlimages.runs import name_run
from rlimages.shell import Stop
from rlimages.stack import Stack, Stored, stack


def stacks(words: Sequence[str], *, matrix: Path | None) -> Iterator[Stack]:
    """What each word's images are made of: images of the local store, or cells by id, with * and ?.

    Raises `FactoryError` where there is none.
    """
    owner = accepting.find_project(matrix, Path.cwd())
    engine = DockerEngine(run=name_run(), stop=Stop())
    try:
        found = [subject.name for word in words for subject in accepting.find_subjects(word, engine, owner)]
        cells = _cells({cell.local_name: cell.id for cell in owner.cells} if owner else {}, engine)
        for name in dict.fromkeys(found):
            image = engine.stored(name)
            if image is not None:
                yield stack(image, cells)
    finally:
        engine.close()


def _cells(names: Mapping[str, str], engine: DockerEngine) -> Mapping[str, Stored]:
    """Cell -> its image, for the cells whose image is in the local store."""
    held = engine.holdings()
    here = {cell: engine.stored(name) for name, cell in names.items() if held.find(name)}
    return {cell: image for cell, image in here.items() if image is not None}
