"""Commands that run images as SageMaker would: train, serve, invoke, transform."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages.cli.common import combine, json_option
from rlimages.emulator import endpoint_config
from rlimages.emulator.endpoint_config import PORT, STARTUP_TIMEOUT

if TYPE_CHECKING:
    from rlimages.emulator.endpoint_config import Endpoint, EndpointState


def _path(*, folder: bool) -> click.Path:
    return click.Path(path_type=Path, exists=True, file_okay=not folder)


def _note(line: str) -> None:
    click.echo(f"rlimages: {line}", err=True)


gpus_option = click.option("--gpus", metavar="N|all", help="GPUs of this machine for each container.")
environment_option = click.option(
    "--env", "environment", multiple=True, metavar="NAME=VALUE", help="Of the containers."
)
region_option = click.option(
    "--region", default="us-west-2", show_default=True, help="What the container is told about the region."
)
instance_options = combine(
    click.argument("image"),
    click.option("--model", type=click.Path(path_type=Path), help="model.tar.gz, or a folder."),
    environment_option,
    gpus_option,
    click.option("--bind-to-port", "bind_to", type=click.IntRange(1024, 65535), help="Where the container listens."),
    click.option(
        "--container-startup-timeout", "startup", type=click.IntRange(1, 3600), default=STARTUP_TIMEOUT,
        show_default=True, metavar="SECONDS", help="ContainerStartupHealthCheckTimeoutInSeconds.",
    ),
    region_option,
)  # fmt: skip
_OF_AN_INSTANCE = ("image", "model", "environment", "gpus", "bind_to", "startup", "region")


@click.command()
@click.argument("image")
@click.option("--entry-point", metavar="FILE", help="The training script, in --source-dir if that is given.")
@click.option("--source-dir", type=_path(folder=True), help="Folder that becomes /opt/ml/code.")
@click.option("--dependency", "dependencies", multiple=True, type=_path(folder=False), help="Goes beside the script.")
@click.option("-p", "--hyperparameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A hyperparameter.")
@click.option("--channel", "channels", multiple=True, metavar="NAME=PATH", help="Input, read-only: folder or file.")
@click.option(
    "--input-mode", type=click.Choice(["File", "Pipe", "Mount"]), default="File", show_default=True, help="Of channels."
)
@click.option("--instance-count", type=click.IntRange(1, 20), default=1, show_default=True, help="How many hosts.")
@gpus_option
@environment_option
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for results, if not .rlimages/jobs/NAME."
)
@click.option(
    "--checkpoints", type=click.Path(path_type=Path, file_okay=False), help="Folder kept as /opt/ml/checkpoints."
)
@click.option("--max-run", type=click.IntRange(1), default=86400, show_default=True, help="Seconds that it may train.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME=REGEX", help="Values to take out of the log.")
@region_option
@json_option
@click.pass_context
def train(ctx: click.Context, /, as_json: bool, **words: Any) -> None:
    """Run a training job in IMAGE, or in a cell's image, as SageMaker would. Ctrl-C is StopTrainingJob.

    Exit codes: 0 completed, 1 failed, 130 stopped.
    """
    from rlimages.emulator.train import EXIT_CODES, TrainOptions, train, training_facts, training_lines
    from rlimages.system.process import Stop, stopping_on_signals

    stop = Stop()
    with stopping_on_signals(stop):
        trained = train(
            TrainOptions(**words), matrix=ctx.obj, stop=stop, on_note=_note,
            on_line=lambda line: click.echo(line, err=as_json),
        )  # fmt: skip
    facts = training_facts(trained)
    for line in (json.dumps(facts, indent=2, ensure_ascii=False),) if as_json else training_lines(trained):
        click.echo(line)
    ctx.exit(EXIT_CODES[trained.result.status])


@click.command()
@instance_options
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True,
    help="Of this machine's loopback; 0 for any that is free.",
)  # fmt: skip
@json_option
@click.pass_context
def serve(ctx: click.Context, /, as_json: bool, **words: Any) -> None:
    """Run an endpoint of IMAGE, or of a cell's image, as SageMaker would. Ctrl-C ends it.

    Exit codes: 0 stopped in service, 1 failed or unhealthy, 130 stopped before it was in service.
    """
    from rlimages.emulator.serve import ServeOptions, endpoint_exit_code, endpoint_facts, endpoint_lines, serve
    from rlimages.system.process import Stop, stopping_on_signals

    def tell(endpoint: "Endpoint", state: "EndpointState") -> None:
        facts = json.dumps(endpoint_facts(endpoint, state), ensure_ascii=False)
        for line in (facts,) if as_json else endpoint_lines(endpoint, state):
            click.echo(line)

    stop = Stop()
    with stopping_on_signals(stop):
        endpoint, state = serve(
            ServeOptions(**words), matrix=ctx.obj, stop=stop, on_state=tell, on_note=_note,
            on_line=lambda line: click.echo(line, err=as_json),
        )  # fmt: skip
    tell(endpoint, state)
    ctx.exit(endpoint_exit_code(state))


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--endpoint", metavar="NAME|PORT|URL", help="By default the only one that runs here.")
@click.option("--content-type", metavar="TYPE", help="What FILE is; by default what its extension says.")
@click.option("--accept", metavar="TYPE", help="What the answer shall be.")
@json_option
@click.pass_context
def invoke(
    ctx: click.Context, /, file: Path, endpoint: str | None, content_type: str | None, accept: str | None, as_json: bool
) -> None:
    """Send FILE, or - for standard input, to an endpoint, and print its answer. Standard input is JSON if not said.

    Exit codes: 0 for an answer that is 2xx, 1 for any other and for none within 60 s.
    """
    from rlimages.emulator.serve import answer_facts, invoke_endpoint, read_body

    body = sys.stdin.buffer.read() if str(file) == "-" else read_body(file)
    kind = endpoint_config.content_type("-.json" if str(file) == "-" else str(file), content_type)
    address, answer = invoke_endpoint(endpoint, body, content_type=kind, accept=accept)
    if as_json:
        click.echo(json.dumps(answer_facts(address, answer), indent=2, ensure_ascii=False))
    elif answer.passed:
        click.echo(answer.body, nl=sys.stdout.isatty() and not answer.body.endswith(b"\n"))
    if not answer.passed:
        _note(f"{address} answered {answer.sentence}")
    ctx.exit(0 if answer.passed else 1)


@click.command()
@instance_options
@click.option("--input", "source", required=True, type=click.Path(path_type=Path), help="Folder or file.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder, if not .rlimages/transforms/NAME."
)
@click.option("--content-type", metavar="TYPE", help="What the files are; by default what their extensions say.")
@click.option("--accept", metavar="TYPE", help="What the answers shall be.")
@click.option("--split-type", type=click.Choice(["None", "Line"]), default="None", show_default=True, help="Records.")
@click.option("--batch-strategy", "strategy", type=click.Choice(["SingleRecord", "MultiRecord"]), help="Per request.")
@click.option("--assemble-with", type=click.Choice(["None", "Line"]), default="None", show_default=True)
@click.option("--max-payload-in-mb", "payload", type=click.IntRange(0, 100), help="Of a request; 0 for any size.")
@click.option("--max-concurrent-transforms", "concurrent", type=click.IntRange(0, 100), help="Requests at once.")
@click.option(
    "--invocations-timeout", "timeout", type=click.IntRange(1, 3600), default=600, show_default=True, metavar="SECONDS"
)
@click.option("--invocations-max-retries", "retries", type=click.IntRange(0, 3), default=3, show_default=True)
@json_option
@click.pass_context
def transform(ctx: click.Context, /, as_json: bool, **words: Any) -> None:
    """Run a batch transform job: send every file of a folder through a model, and keep NAME.out of each.

    What options do not say about requests, the container does (GET /execution-parameters).

    Exit codes: 0 completed, 1 failed, 130 stopped.
    """
    from rlimages.emulator.serve import ServeOptions
    from rlimages.emulator.transform import (
        EXIT_CODES,
        TransformOptions,
        file_line,
        transform,
        transform_facts,
        transform_lines,
    )
    from rlimages.system.process import Stop, stopping_on_signals

    served = ServeOptions(port=0, is_batch=True, **{name: words.pop(name) for name in _OF_AN_INSTANCE})
    stop = Stop()
    with stopping_on_signals(stop):
        done = transform(
            TransformOptions(**words), served, matrix=ctx.obj, stop=stop, on_note=_note,
            on_line=lambda line: click.echo(line, err=as_json),
            on_file=lambda file: click.echo(file_line(file), err=as_json),
        )  # fmt: skip
    for line in (json.dumps(transform_facts(done), indent=2),) if as_json else transform_lines(done):
        click.echo(line)
    ctx.exit(EXIT_CODES[done.result.status])
