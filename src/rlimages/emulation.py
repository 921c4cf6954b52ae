"""The verbs that run an image on this machine as SageMaker would."""

from pathlib import Path
from typing import Any

import click


def _path(*, folder: bool) -> click.Path:
    return click.Path(path_type=Path, exists=True, file_okay=not folder)


@click.command()
@click.argument("image")
@click.option("--entry-point", metavar="FILE", help="The training script, in --source-dir if that is given.")
@click.option("--source-dir", type=_path(folder=True), help="Folder that becomes /opt/ml/code.")
@click.option("--dependency", "dependencies", multiple=True, type=_path(folder=False), help="Goes beside the script.")
@click.option("-p", "--hyperparameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A hyperparameter.")
@click.option("--channel", "channels", multiple=True, metavar="NAME=PATH", help="Input, read-only: folder or file.")
@click.option("--instance-count", type=click.IntRange(1, 20), default=1, show_default=True, help="How many hosts.")
@click.option("--gpus", metavar="N|all", help="GPUs of this machine for each host.")
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="Environment of the containers.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for results, if not .rlimages/jobs/NAME."
)
@click.option("--max-run", type=click.IntRange(1), default=86400, show_default=True, help="Seconds that it may train.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME=REGEX", help="Values to take out of the log.")
@click.option("--region", default="us-west-2", show_default=True, help="What the script is told about the region.")
@click.pass_context
def train(ctx: click.Context, /, **options: Any) -> None:
    """Run a training job in IMAGE, or in a cell's image, as SageMaker would. Ctrl-C is StopTrainingJob.

    Exit codes: 0 completed, 1 failed, 130 stopped.
    """
    from rlimages import shell, training

    stop = shell.Stop()
    with shell.stopping_on_signals(stop):
        trained = training.run(
            training.Wishes(**options), matrix=ctx.obj, stop=stop, on_line=click.echo,
            on_note=lambda line: click.echo(f"rlimages: {line}", err=True),
        )  # fmt: skip
    for line in training.lines(trained):
        click.echo(line)
    ctx.exit(training.EXIT_CODES[trained.result.status])
