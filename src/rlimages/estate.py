"""The verbs for what is published already: how the SageMaker SDK finds it."""

import json
from pathlib import Path

import click

from rlimages import options
from rlimages.errors import UsageError


@click.command("sdk-config")
@options.selecting
@click.option("--target", default="", metavar="NAME", help="Images of this target of targets.yaml, in its regions.")
@click.option("--account", default="", metavar="ACCOUNT", help="Images in your own ECR account, without a prefix.")
@click.option(
    "--region", "regions", multiple=True, help="Region of that account; may be repeated. us-west-2 if not said."
)
@click.option("--line", default="sagemaker", show_default=True, help="The base line whose versions are plain numbers.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder to write to, if not stdout.")
@click.pass_context
def sdk_config(
    ctx: click.Context,
    /,
    patterns: tuple[str, ...],
    target: str,
    account: str,
    regions: tuple[str, ...],
    line: str,
    output: Path | None,
) -> None:
    """Write the SageMaker SDK's image_uri_config for our repositories: a JSON for each toolkit and framework.

    Without --target and --account it is about the images that SageMaker published.
    """
    from rlimages import introducing, project, selector

    if target and (account or regions):
        raise UsageError("a target has its account and its regions in targets.yaml; give --target alone")
    if regions and not account:
        raise UsageError("--region is for --account: say whose images they are")
    if account and not (len(account) == 12 and account.isdecimal()):
        raise UsageError(f"--account {account}: an AWS account has twelve digits")
    known = project.load(ctx.obj, Path.cwd())
    cells = selector.select(known.cells, patterns or ("*",))
    told = introducing.introduce(known, cells, target=target, account=account, regions=regions, line=line)
    if output is None:
        click.echo(json.dumps(told, indent=4))
        return
    for done in introducing.write({name: json.dumps(said, indent=4) + "\n" for name, said in told.items()}, output):
        click.echo(done)
