"""The verb that asks whether a target would take an image."""

import json
import os
from typing import TYPE_CHECKING

import click

from rlimages import options

if TYPE_CHECKING:
    from rlimages.acceptance import Verdict


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--profile", "profiles", multiple=True, default=["sagemaker-training"], show_default=True, metavar="NAME",
    help="What to judge by: sagemaker-training, sagemaker-hosting, or one of the project's acceptance.yaml.",
)  # fmt: skip
@options.as_json
@click.pass_context
def accept(ctx: click.Context, /, words: tuple[str, ...], profiles: tuple[str, ...], as_json: bool) -> None:
    """Judge whether SageMaker would take an image, rule by rule, before anything is pushed.

    IMAGE is a reference that names a registry (host[:port]/repository:tag), an image of the local store, or cells by
    id, with * and ?. Nothing of an image is run. Of a registry's image all layers are read, and none is kept.

    Exit codes: 0 accepted, 8 refused.
    """
    from rlimages import accepting, shell
    from rlimages.errors import GateError

    verdicts: list[Verdict] = []

    def hear(verdict: "Verdict") -> None:
        verdicts.append(verdict)
        for line in accepting.lines(verdict) if not as_json else ():
            click.echo(line)

    stop = shell.Stop()
    try:
        with shell.stopping_on_signals(stop):
            accepting.run(
                words, profiles, matrix=ctx.obj, environ=os.environ, stop=stop, on_verdict=hear,
                on_note=lambda line: click.echo(f"rlimages: {line}", err=True),
            )  # fmt: skip
    finally:  # what was judged before something broke is not lost
        if as_json:
            click.echo(json.dumps(accepting.facts(verdicts), indent=2, ensure_ascii=False))
    refused = sum(1 for verdict in verdicts if verdict.refused)
    if refused:
        raise GateError(f"refused: {refused} of {len(verdicts)}; what is wrong and what to do stands above")
