"""Judge the images that words mean, and say what came of it: for eyes and for programs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlimages import inspection, profiles, project
from rlimages.acceptance import Verdict, judge
from rlimages.docker_engine import DockerEngine
from rlimages.errors import FactoryError, Interrupted, MatrixError, RegistryError, SelectionError, ToolError
from rlimages.inspection import LOCAL, Store
from rlimages.login import RegistryLogin
from rlimages.places import HostCredentials
from rlimages.profiles import Profile
from rlimages.project import Project
from rlimages.registry import Registry, parse_reference
from rlimages.results import Outcome
from rlimages.runs import name_run
from rlimages.selector import select
from rlimages.shell import Stop
from rlimages.specimen import Specimen


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """An image of the local store, and the tags that it would be published under."""

    name: str
    tags: tuple[str, ...]


def run(
    words: Sequence[str],
    chosen: Sequence[str],
    *,
    matrix: Path | None,
    environ: Mapping[str, str],
    stop: Stop,
    on_verdict: Callable[[Verdict], None],
    on_note: Callable[[str], None],
) -> None:
    """Judge each word's images by each of the chosen profiles, and hand on each verdict. Raises `FactoryError`.

    A word is a reference that names a registry, an image of the local store, or a pattern of cells.
    """
    owner = find_project(matrix, Path.cwd())
    known = profiles.load(owner.root if owner else None)
    wanted = tuple(known.find(name) for name in dict.fromkeys(chosen))
    engine = DockerEngine(run=name_run(), stop=stop)
    try:
        for specimen in _specimens(words, wanted, engine, owner, environ, stop, on_note):
            for profile in wanted:
                on_verdict(judge(specimen, profile))
            if stop.is_set():
                raise Interrupted("interrupted")
    finally:
        engine.close()


def find_project(matrix: Path | None, start: Path) -> Project | None:
    """The project, or None where there is none: an image can be judged anywhere. Raises `MatrixError`."""
    try:
        return project.load(matrix, start)
    except MatrixError:
        raise
    except FactoryError:
        return None


def find_subjects(word: str, store: Store, owner: Project | None) -> tuple[Subject, ...]:
    """The images of the local store that a word means. Raises `SelectionError`, `ToolError`."""
    cells = owner.cells if owner else ()
    if word and store.inspect(word) is not None:
        cell = next((cell for cell in cells if cell.local_name == word), None)
        return (Subject(name=word, tags=cell.tags if cell else _tag(word)),)
    neither = f"'{word}' is no image of the local store and names no registry"
    if owner is None:
        raise SelectionError(f"{neither}, and no project with cells is here; docker pull it, or give --matrix")
    try:
        found = select(cells, (word,))
    except SelectionError as error:
        raise SelectionError(f"{neither}, and {error}") from None
    for cell in found:
        if store.inspect(cell.local_name) is None:
            raise ToolError(f"there is no image of {cell.id} in the local store; rlimages build --select {cell.id}")
    return tuple(Subject(name=cell.local_name, tags=cell.tags) for cell in found)


def _specimens(
    words: Sequence[str],
    wanted: Sequence[Profile],
    engine: DockerEngine,
    owner: Project | None,
    environ: Mapping[str, str],
    stop: Stop,
    on_note: Callable[[str], None],
) -> Iterator[Specimen]:
    cleaned = False
    for word in words:
        if _names_registry(word):
            place = parse_reference(word)
            with Registry(place.host, login=RegistryLogin(HostCredentials(environ))) as registry:
                yield inspection.remote(registry, place, wanted, stop=stop, on_note=on_note)
            continue
        if not cleaned:
            for note in engine.cleanup():
                on_note(note)
            cleaned = True
        for subject in find_subjects(word, engine, owner):
            yield inspection.local(engine, subject.name, subject.tags, wanted)


def _names_registry(word: str) -> bool:
    try:
        parse_reference(word)
    except RegistryError:
        return False
    return True


def _tag(name: str) -> tuple[str, ...]:
    """The tag of a name of the local store; an id has none."""
    tag = name.rpartition("/")[2].partition("@")[0].partition(":")[2]
    return (tag,) if tag and not name.startswith("sha256:") else ()


_MARKS = {Outcome.PASSED: "passed", Outcome.FAILED: "REFUSED", Outcome.NOT_APPLICABLE: "-"}


def lines(verdict: Verdict) -> Iterator[str]:
    """A verdict for people: a head, a line for each rule, and a remedy below each that is broken."""
    specimen, profile = verdict.specimen, verdict.profile
    came = "refused" if verdict.refused else "accepted"
    how = LOCAL if specimen.origin == LOCAL else f"{specimen.read / 1e6:.1f} MB read"
    yield f"{specimen.reference} ({how}): {came} by {profile.name} as of {profile.as_of}"
    for finding in verdict.findings:
        yield f"  {_MARKS[finding.outcome]:<8} {finding.rule:<16} {finding.reason}"
        if finding.remedy:
            yield f"{'':<28}-> {finding.remedy}"


def facts(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """Verdicts for programs."""
    return [
        {
            "image": verdict.specimen.reference,
            "origin": verdict.specimen.origin,
            "digest": verdict.specimen.id,
            "profile": verdict.profile.name,
            "as of": verdict.profile.as_of,
            "accepted": not verdict.refused,
            "bytes read": verdict.specimen.read,
            "rules": [
                {"rule": each.rule, "outcome": each.outcome.value, "reason": each.reason, "remedy": each.remedy}
                for each in verdict.findings
            ],
        }
        for verdict in verdicts
    ]
