"""Commands that examine images: accept, sbom, verify, reproduce, show --layers."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages.cli.common import base_options, json_option, print_json, print_lines, print_note
from rlimages.engine.docker import DockerEngine
from rlimages.oci.layers import LayerStack, StoredImage, explain_layers
from rlimages.project.lookup import find_project, find_subjects
from rlimages.project.state import new_run_name
from rlimages.system.process import Stop

if TYPE_CHECKING:
    from rlimages.checks.acceptance import AcceptanceResult
    from rlimages.oci.compare import Difference
    from rlimages.run.reproduce import Reproduction
    from rlimages.supplychain.signing import Verification


def explain_images(words: Sequence[str], *, matrix: Path | None) -> Iterator[LayerStack]:
    """What each word's images are made of: images of the local store, or cells by id, with * and ?.

    Raises `FactoryError` where there is none.
    """
    owner = find_project(matrix, Path.cwd())
    engine = DockerEngine(run=new_run_name(), stop=Stop())
    try:
        found = [subject.name for word in words for subject in find_subjects(word, engine, owner)]
        cells = _cells({cell.local_name: cell.id for cell in owner.cells} if owner else {}, engine)
        for name in dict.fromkeys(found):
            image = engine.read_layers(name)
            if image is not None:
                yield explain_layers(image, cells)
    finally:
        engine.close()


def _cells(names: Mapping[str, str], engine: DockerEngine) -> Mapping[str, StoredImage]:
    """Cell -> its image, for the cells whose image is in the local store."""
    held = engine.local_images()
    here = {cell: engine.read_layers(name) for name, cell in names.items() if held.find(name)}
    return {cell: image for cell, image in here.items() if image is not None}


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--profile", "profiles", multiple=True, default=["sagemaker-training"], show_default=True, metavar="NAME",
    help="What to judge by: sagemaker-training, sagemaker-hosting, or one of the project's acceptance.yaml.",
)  # fmt: skip
@json_option
@click.pass_context
def accept(ctx: click.Context, /, words: tuple[str, ...], profiles: tuple[str, ...], as_json: bool) -> None:
    """Judge whether SageMaker would take an image, rule by rule, before anything is pushed.

    IMAGE is a reference that names a registry (host[:port]/repository:tag), an image of the local store, or cells by
    id, with * and ?. Nothing of an image is run. Of a registry's image all layers are read, and none is kept.

    Exit codes: 0 accepted, 8 refused.
    """
    from rlimages.checks.acceptance import accept_images, acceptance_facts, acceptance_lines
    from rlimages.errors import AcceptanceError
    from rlimages.system.process import Stop, stopping_on_signals

    verdicts: list[AcceptanceResult] = []

    def hear(verdict: "AcceptanceResult") -> None:
        verdicts.append(verdict)
        for line in acceptance_lines(verdict) if not as_json else ():
            click.echo(line)

    stop = Stop()
    try:
        with stopping_on_signals(stop):
            accept_images(
                words, profiles, matrix=ctx.obj, environ=os.environ, stop=stop, on_verdict=hear,
                on_note=lambda line: click.echo(f"rlimages: {line}", err=True),
            )  # fmt: skip
    finally:  # what was judged before something broke is not lost
        if as_json:
            click.echo(json.dumps(acceptance_facts(verdicts), indent=2, ensure_ascii=False))
    refused = sum(1 for verdict in verdicts if verdict.refused)
    if refused:
        raise AcceptanceError(f"refused: {refused} of {len(verdicts)}; what is wrong and what to do stands above")


@click.command()
@click.argument("image")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write to, if not stdout.")
@click.option("--interpreter", metavar="PYTHON", help="The image's Python, if it is no cell's and not python3.")
@click.pass_context
def sbom(ctx: click.Context, /, image: str, output: Path | None, interpreter: str | None) -> None:
    """Say what is installed in IMAGE, or in a cell's image, as CycloneDX 1.6.

    A program runs inside, without network: it reads what dpkg or rpm and the Python packages say about themselves.
    """
    from rlimages.supplychain.sbom import describe_image
    from rlimages.system.files import write_atomically
    from rlimages.system.process import Stop, stopping_on_signals

    stop = Stop()
    with stopping_on_signals(stop):
        text = describe_image(image, interpreter, matrix=ctx.obj, stop=stop)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_atomically(output, text.encode())


@click.command()
@click.argument("references", nargs=-1, required=True, metavar="REFERENCE...")
@click.option("--key", required=True, metavar="KEY", help="cosign's public key: a file, or a KMS URI.")
@json_option
@click.pass_context
def verify(ctx: click.Context, /, references: tuple[str, ...], key: str, as_json: bool) -> None:
    """Ask registries what they hold under each REFERENCE, and whether KEY signed that and what is in it.

    Exit codes: 0 all of them are good, 7 some are not.
    """
    from rlimages.registry.ecr import HostCredentials
    from rlimages.supplychain.signing import verify_references
    from rlimages.system.process import Stop, stopping_on_signals

    stop = Stop()
    answers = []
    with stopping_on_signals(stop):
        for reference, answer in verify_references(
            references, key, credentials=HostCredentials(os.environ), environ=os.environ, stop=stop
        ):
            answers.append(_verification_facts(reference, answer))
            if not as_json:
                click.echo(_verification_lines(answers[-1]))
    if as_json:
        click.echo(json.dumps(answers, indent=2, ensure_ascii=False))
    ctx.exit(7 if any(answer["error"] for answer in answers) else 0)


def _verification_facts(reference: str, answer: "Verification | Exception") -> dict[str, Any]:
    if isinstance(answer, Exception):
        return {"reference": reference, "error": str(answer)}
    return {
        "reference": reference,
        "error": "",
        "digest": answer.subject.digest,
        "key": answer.fingerprint,
        "signed": answer.signed,
        "annotations": dict(answer.annotations),
        "components": len((answer.bom or {}).get("components", ())),
    }


def _verification_lines(told: Mapping[str, Any]) -> str:
    if told["error"]:
        return f"{told['reference']}: NOT VERIFIED: {told['error']}"
    return "\n".join(
        [
            f"{told['reference']}: verified",
            f"  digest    {told['digest']}",
            f"  signed    {told['signed'] or 'at an unknown time'} by {told['key']}",
            f"  contents  {told['components']} components, attested by the same key",
        ]
    )


SHOWN = 20
"""Differences that people see; --json has all."""
LEVELS = ("digest", "files", "packages")


@click.command()
@click.argument("image", metavar="IMAGE")
@click.option(
    "--level", type=click.Choice(LEVELS), default="files", show_default=True,
    help="What must be the same, or the exit code is 1.",
)  # fmt: skip
@click.option("--as-is", is_flag=True, help="Build from this checkout, not from the commit that the image names.")
@click.option("--keep", is_flag=True, help="Keep the new image, as rlimages-reproduction:<cell>.")
@base_options
@click.option("--timeout", type=click.IntRange(min=1), help="Seconds for the build; by default what the matrix says.")
@json_option
@click.pass_context
def reproduce(
    ctx: click.Context,
    /,
    image: str,
    level: str,
    as_is: bool,
    keep: bool,
    region: str | None,
    overrides: tuple[str, ...],
    override_file: Path | None,
    timeout: int | None,
    as_json: bool,
) -> None:
    """Build an image again from what its labels say, and say how alike the two are.

    IMAGE is a reference that names a registry, an image of the local store, or a cell. Its cell is built from nothing,
    from the commit that it names, which is taken out of this repository into a temporary folder, at its own date.
    Then the two are the same by digest, by files (time stamps apart), by packages, or different; the differences are
    named.

    Exit codes: 0 the same at --level or above, 1 not, or the build failed.
    """
    from rlimages.oci.compare import Similarity
    from rlimages.plan.step import RunOptions
    from rlimages.run.reproduce import reproduce
    from rlimages.system.process import Stop, stopping_on_signals

    wishes = RunOptions(
        stages=(), command="reproduce", region=region, overrides=overrides, override_file=override_file, timeout=timeout
    )
    stop = Stop()
    with stopping_on_signals(stop):
        done = reproduce(
            image, matrix=ctx.obj, wishes=wishes, as_is=as_is, keep=keep, environ=os.environ, stop=stop,
            on_note=print_note,
        )  # fmt: skip
    if as_json:
        print_json(reproduction_facts(done))
    else:
        print_lines(reproduction_lines(done))
    ctx.exit(0 if done.comparison.level >= Similarity[level.upper()] else 1)


def show_layers(words: Sequence[str], matrix: Path | None, *, as_json: bool) -> None:
    """Print what images of the local store are made of."""
    from rlimages.oci.layers import layer_facts, layer_lines

    told = list(explain_images(words, matrix=matrix))
    if as_json:
        print_json(layer_facts(told))
    else:
        print_lines(line for each in told for line in layer_lines(each))


def reproduction_lines(done: "Reproduction") -> Iterator[str]:
    """What came of it, for people."""
    found = done.comparison
    yield f"{done.origin.called}: {found.level}"
    yield f"  was {done.origin.id}"
    yield f"  now {done.image} (built in {done.seconds:.0f} s)"
    for sentence in done.ground:
        yield f"  stands on another {sentence}"
    yield from _listed("packages", found.packages)
    yield from _listed("paths and settings", found.files)
    yield from _listed("labels", found.labels)
    if found.times:
        yield f"  {found.times} paths have another time stamp"


def _listed(what: str, differences: "Sequence[Difference]") -> Iterator[str]:
    if differences:
        yield f"  {len(differences)} {what} differ:"
    for one in differences[:SHOWN]:
        yield f"    {one.where}: {one.what}"
    if len(differences) > SHOWN:
        yield f"    and {len(differences) - SHOWN} more (--json names all)"


def reproduction_facts(done: "Reproduction") -> dict[str, Any]:
    """The same for programs."""
    found = done.comparison
    return {
        "image": done.origin.called,
        "cell": done.origin.cell,
        "revision": done.origin.revision,
        "epoch": done.origin.epoch,
        "level": str(found.level),
        "was": done.origin.id,
        "now": done.image,
        "seconds": round(done.seconds, 1),
        "ground": list(done.ground),
        "packages": _difference_facts(found.packages),
        "files": _difference_facts(found.files),
        "labels": _difference_facts(found.labels),
        "times": found.times,
    }


def _difference_facts(differences: "Sequence[Difference]") -> list[dict[str, str]]:
    return [{"where": one.where, "what": one.what} for one in differences]
