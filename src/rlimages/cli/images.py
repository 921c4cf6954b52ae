"""Define the commands that examine images: accept, sbom, verify, reproduce, show --layers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages.cli.common import base_options, command_context, json_option, print_json, print_lines
from rlimages.errors import AcceptanceError, FactoryError, RegistryError

if TYPE_CHECKING:
    from rlimages.checks.acceptance import AcceptanceResult
    from rlimages.engine.docker import DockerEngine
    from rlimages.oci.compare import Difference
    from rlimages.oci.history import LayerStack, StoredImage
    from rlimages.run.reproduce import Reproduction
    from rlimages.supplychain.signing import Verification


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    default=["sagemaker-training"],
    show_default=True,
    metavar="NAME",
    help="Acceptance profile: sagemaker-training, sagemaker-hosting, or one of the project's acceptance.yaml. May be "
    "given several times.",
)
@json_option
@click.pass_context
def accept(ctx: click.Context, /, images: tuple[str, ...], profiles: tuple[str, ...], as_json: bool) -> None:
    """Check whether SageMaker would accept an image.

    IMAGE is an image in a registry (host[:port]/repository:tag), a local image, or the ID of a cell; `*` and `?`
    match. The image is not run. Of an image in a registry, all layers are read and none is kept.

    The exit code is 0 if all images are accepted, and 8 if one is refused.
    """
    from rlimages.checks.acceptance import accept_images, acceptance_facts, acceptance_lines

    results: list[AcceptanceResult] = []

    def on_result(result: "AcceptanceResult") -> None:
        results.append(result)
        if not as_json:
            print_lines(acceptance_lines(result))

    try:
        with command_context() as context:
            accept_images(images, profiles, matrix=ctx.obj, context=context, on_result=on_result)
    finally:  # also after an error, the results so far are printed
        if as_json:
            print_json(acceptance_facts(results))
    refused = sum(1 for result in results if result.broken_rules)
    if refused:
        raise AcceptanceError(f"{refused} of {len(results)} refused; the lines above show why and what to do")


@click.command()
@click.argument("image")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the SBOM to this file instead of printing it.",
)
@click.option(
    "--interpreter",
    metavar="PYTHON",
    help="Python interpreter of the image. The default is that of the cell, or python3.",
)
@click.pass_context
def sbom(ctx: click.Context, /, image: str, output: Path | None, interpreter: str | None) -> None:
    """Print the SBOM of a local image, as CycloneDX 1.6.

    IMAGE is a local image or the ID of a cell. A container without network is started from it, and reads the records
    of dpkg or rpm and of the Python packages.
    """
    from rlimages.supplychain.sbom import local_image_sbom
    from rlimages.system.files import write_atomically

    with command_context() as context:
        text = local_image_sbom(image, interpreter, matrix=ctx.obj, stop=context.stop)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_atomically(output, text.encode())


@click.command()
@click.argument("references", nargs=-1, required=True, metavar="REFERENCE...")
@click.option("--key", required=True, metavar="KEY", help="Public key of cosign: a file, or the URI of a KMS key.")
@json_option
@click.pass_context
def verify(ctx: click.Context, /, references: tuple[str, ...], key: str, as_json: bool) -> None:
    """Verify signatures and SBOMs of images in registries.

    REFERENCE is host[:port]/repository:tag or host[:port]/repository@digest. Each image must be signed by KEY, and its
    SBOM attested by KEY.

    The exit code is 0 if all images are verified, and 7 if one is not.
    """
    from rlimages.registry.ecr import HostCredentials
    from rlimages.supplychain.signing import verify_references

    results = []
    with command_context() as context:
        for reference, verification in verify_references(
            references,
            key,
            credentials=HostCredentials(context.environ),
            context=context,
        ):
            results.append(_verification_facts(reference, verification))
            if not as_json:
                print_lines(_verification_lines(results[-1]))
    if as_json:
        print_json(results)
    ctx.exit(RegistryError.exit_code if any(result["error"] for result in results) else 0)


def _verification_facts(reference: str, verification: "Verification | Exception") -> dict[str, Any]:
    if isinstance(verification, Exception):
        return {"reference": reference, "error": str(verification)}
    return {
        "reference": reference,
        "error": "",
        "digest": verification.image.digest,
        "key": verification.fingerprint,
        "signed": verification.signed,
        "annotations": dict(verification.annotations),
        "components": len((verification.sbom or {}).get("components", ())),
    }


def _verification_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["error"]:
        yield f"{facts['reference']}: NOT VERIFIED: {facts['error']}"
        return
    yield f"{facts['reference']}: verified"
    yield f"  digest    {facts['digest']}"
    yield f"  signed    {facts['signed'] or 'at an unknown time'} by {facts['key']}"
    yield f"  contents  {facts['components']} components, attested by the same key"


LEVELS = ("digest", "files", "packages")
"""The values of `reproduce --level`, the strictest first: how much of two images must be equal."""
_SHOWN_DIFFERENCES = 20
"""Number of differences of each kind that are printed; --json prints all."""


@click.command()
@click.argument("image")
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default="files",
    show_default=True,
    help="The exit code is 1 if the images are less alike than this.",
)
@click.option("--as-is", is_flag=True, help="Build from this checkout instead of the commit in the image's labels.")
@click.option("--keep", is_flag=True, help="Keep the image rlimages-reproduction:<cell>.")
@base_options
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    help="Time limit of the build. The default is that of the matrix.",
)
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
    """Build an image again and compare the two.

    IMAGE is an image in a registry (host[:port]/repository:tag), a local image, or the ID of a cell. Its cell is built
    without cache, from the commit and with the creation date that the image has in its labels. The commit is extracted
    into a temporary folder; the checkout is not changed.

    The result is same digest, same files (time stamps may differ), same packages, or different. The differences are
    listed.

    The exit code is 0 if the images are at least as alike as --level requires. It is 1 if not, or if the build failed.
    """
    from rlimages.oci.compare import Similarity
    from rlimages.plan.step import RunOptions
    from rlimages.run.reproduce import reproduce

    options = RunOptions(
        stages=(), command="reproduce", region=region, overrides=overrides, override_file=override_file, timeout=timeout
    )
    with command_context() as context:
        reproduction = reproduce(image, matrix=ctx.obj, options=options, as_is=as_is, keep=keep, context=context)
    if as_json:
        print_json(_reproduction_facts(reproduction))
    else:
        print_lines(_reproduction_lines(reproduction))
    is_alike = reproduction.comparison.level >= Similarity[level.upper()]
    ctx.exit(0 if is_alike else FactoryError.exit_code)


def _reproduction_lines(reproduction: "Reproduction") -> Iterator[str]:
    comparison = reproduction.comparison
    yield f"{reproduction.origin.name}: {comparison.level}"
    yield f"  was {reproduction.origin.id}"
    yield f"  now {reproduction.image} (built in {reproduction.seconds:.0f} s)"
    for sentence in reproduction.base_differences:
        yield f"  built FROM another {sentence}"
    yield from _difference_lines("packages", comparison.packages)
    yield from _difference_lines("paths and settings", comparison.files)
    yield from _difference_lines("labels", comparison.labels)
    if comparison.times:
        yield f"  {comparison.times} paths have another time stamp"


def _difference_lines(kind: str, differences: "Sequence[Difference]") -> Iterator[str]:
    if differences:
        yield f"  {len(differences)} {kind} differ:"
    for difference in differences[:_SHOWN_DIFFERENCES]:
        yield f"    {difference.where}: {difference.what}"
    if len(differences) > _SHOWN_DIFFERENCES:
        yield f"    and {len(differences) - _SHOWN_DIFFERENCES} more (--json prints all)"


def _reproduction_facts(reproduction: "Reproduction") -> dict[str, Any]:
    comparison = reproduction.comparison
    return {
        "image": reproduction.origin.name,
        "cell": reproduction.origin.cell,
        "revision": reproduction.origin.revision,
        "epoch": reproduction.origin.epoch,
        "level": str(comparison.level),
        "was": reproduction.origin.id,
        "now": reproduction.image,
        "seconds": round(reproduction.seconds, 1),
        "ground": list(reproduction.base_differences),
        "packages": _difference_facts(comparison.packages),
        "files": _difference_facts(comparison.files),
        "labels": _difference_facts(comparison.labels),
        "times": comparison.times,
    }


def _difference_facts(differences: "Sequence[Difference]") -> list[dict[str, str]]:
    return [{"where": difference.where, "what": difference.what} for difference in differences]


def show_layers(arguments: Sequence[str], matrix: Path | None, *, as_json: bool) -> None:
    """Print the layers of local images on standard output, for `show --layers`; as JSON if `as_json`.

    Each of `arguments` is the name or id of a local image, or a pattern of cell ids. `matrix` is the path of the build
    matrix; None searches it upwards from the working folder. Raise `FactoryError` if an argument names no image.
    """
    from rlimages.oci.history import layer_facts, layer_lines

    stacks = list(_read_layers(arguments, matrix))
    if as_json:
        print_json(layer_facts(stacks))
    else:
        print_lines(line for stack in stacks for line in layer_lines(stack))


def _read_layers(arguments: Sequence[str], matrix: Path | None) -> "Iterator[LayerStack]":
    """Yield the layers of each local image that `arguments` name, with the ids of the other cells that share a layer.

    Each of `arguments` is the name or id of a local image, or a pattern of cell ids; `matrix` is the path of the build
    matrix, or None. An image that two arguments name is yielded once.
    """
    from rlimages.engine.docker import DockerEngine
    from rlimages.oci.history import explain_layers
    from rlimages.project.lookup import find_project, find_subjects
    from rlimages.project.state import new_run_name
    from rlimages.system.process import Stop

    project = find_project(matrix, Path.cwd())
    engine = DockerEngine(run=new_run_name(), stop=Stop())
    try:
        names = [subject.name for argument in arguments for subject in find_subjects(argument, engine, project)]
        cells = _built_cells({cell.local_name: cell.id for cell in project.cells} if project else {}, engine)
        for name in dict.fromkeys(names):
            image = engine.read_layers(name)
            if image is not None:
                yield explain_layers(image, cells)
    finally:
        engine.close()


def _built_cells(ids: Mapping[str, str], engine: "DockerEngine") -> "Mapping[str, StoredImage]":
    """Return cell id -> layers and history of the cell's local image; cells that are not built are left out.

    `ids` maps the name of a cell's image in the local store of `engine` to the id of the cell.
    """
    local_images = engine.local_images()
    images = {cell_id: engine.read_layers(name) for name, cell_id in ids.items() if local_images.find(name)}
    return {cell_id: image for cell_id, image in images.items() if image is not None}
