"""The verbs that say what is in an image, and whether it is what was signed."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages import options

if TYPE_CHECKING:
    from rlimages.signing import Verified


@click.command()
@click.argument("image")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write to, if not stdout.")
@click.option("--interpreter", metavar="PYTHON", help="The image's Python, if it is no cell's and not python3.")
@click.pass_context
def sbom(ctx: click.Context, /, image: str, output: Path | None, interpreter: str | None) -> None:
    """Say what is installed in IMAGE, or in a cell's image, as CycloneDX 1.6.

    A program runs inside, without network: it reads what dpkg or rpm and the Python packages say about themselves.
    """
    from rlimages import describing, shell, tree

    stop = shell.Stop()
    with shell.stopping_on_signals(stop):
        text = describing.describe(image, interpreter, matrix=ctx.obj, stop=stop)
    if output is None:
        click.echo(text, nl=False)
    else:
        tree.replace(output, text.encode())


@click.command()
@click.argument("references", nargs=-1, required=True, metavar="REFERENCE...")
@click.option("--key", required=True, metavar="KEY", help="cosign's public key: a file, or a KMS URI.")
@options.as_json
@click.pass_context
def verify(ctx: click.Context, /, references: tuple[str, ...], key: str, as_json: bool) -> None:
    """Ask registries what they hold under each REFERENCE, and whether KEY signed that and what is in it.

    Exit codes: 0 all of them are good, 7 some are not.
    """
    from rlimages import shell, signing
    from rlimages.places import HostCredentials

    stop = shell.Stop()
    answers = []
    with shell.stopping_on_signals(stop):
        for reference, answer in signing.verify_references(
            references, key, credentials=HostCredentials(os.environ), environ=os.environ, stop=stop
        ):
            answers.append(_facts(reference, answer))
            if not as_json:
                click.echo(_lines(answers[-1]))
    if as_json:
        click.echo(json.dumps(answers, indent=2, ensure_ascii=False))
    ctx.exit(7 if any(answer["error"] for answer in answers) else 0)


def _facts(reference: str, answer: "Verified | Exception") -> dict[str, Any]:
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


def _lines(told: Mapping[str, Any]) -> str:
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
