"""Define the commands that run images locally, as SageMaker would: train, serve, invoke, transform."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages.cli.common import combine, command_context, json_option, print_json, print_lines, print_note
from rlimages.emulator.endpoint import PORT, STARTUP_TIMEOUT
from rlimages.errors import FactoryError

if TYPE_CHECKING:
    from rlimages.emulator.endpoint import Endpoint, EndpointState

_EXISTING_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_EXISTING_PATH = click.Path(path_type=Path, exists=True)
_OUTPUT_FOLDER = click.Path(path_type=Path, file_okay=False)

gpus_option = click.option(
    "--gpus", metavar="N|all", help="Number of this machine's GPUs that each container gets. By default none."
)
environment_option = click.option(
    "--env",
    "environment",
    multiple=True,
    metavar="NAME=VALUE",
    help="Environment variable of the containers. May be given several times.",
)
region_option = click.option(
    "--region",
    default="us-west-2",
    show_default=True,
    metavar="REGION",
    help="The AWS region that the container's variables name.",
)
instance_options = combine(
    click.argument("image"),
    click.option(
        "--model", type=click.Path(path_type=Path), metavar="PATH", help="A model.tar.gz, or a folder with its content."
    ),
    environment_option,
    gpus_option,
    click.option(
        "--bind-to-port",
        "bind_to",
        type=click.IntRange(1024, 65535),
        metavar="PORT",
        help="Port on which the container listens (SAGEMAKER_BIND_TO_PORT). By default 8080.",
    ),
    click.option(
        "--container-startup-timeout",
        "startup",
        type=click.IntRange(1, 3600),
        default=STARTUP_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="Time limit until the first successful ping, as ContainerStartupHealthCheckTimeoutInSeconds of SageMaker.",
    ),
    region_option,
)
_INSTANCE_OPTIONS = ("image", "model", "environment", "gpus", "bind_to", "startup", "region")
"""The names of the parameters that `instance_options` adds to a command."""


@click.command()
@click.argument("image")
@click.option("--entry-point", metavar="FILE", help="The training script. With --source-dir, its path in that folder.")
@click.option("--source-dir", type=_EXISTING_FOLDER, metavar="FOLDER", help="Folder that is copied to /opt/ml/code.")
@click.option(
    "--dependency",
    "dependencies",
    multiple=True,
    type=_EXISTING_PATH,
    metavar="PATH",
    help="File or folder that is copied beside the training script. May be given several times.",
)
@click.option(
    "-p",
    "--hyperparameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Hyperparameter. May be given several times.",
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="NAME=PATH",
    help="Input channel: a folder or a file of this machine. May be given several times.",
)
@click.option(
    "--input-mode",
    type=click.Choice(["File", "Pipe", "Mount"]),
    default="File",
    show_default=True,
    help="How the channels are provided: as a copy, as named pipes, or as a read-only mount.",
)
@click.option(
    "--instance-count",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of hosts; each is a container.",
)
@gpus_option
@environment_option
@click.option(
    "--output",
    type=_OUTPUT_FOLDER,
    metavar="FOLDER",
    help="Folder for the results. The default is .rlimages/jobs/NAME.",
)
@click.option(
    "--checkpoints",
    type=_OUTPUT_FOLDER,
    metavar="FOLDER",
    help="Folder that is copied to /opt/ml/checkpoints at the start, and back at the end.",
)
@click.option(
    "--max-run",
    type=click.IntRange(1),
    default=86400,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of the job.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME=REGEX",
    help="Metric: the group of REGEX is its value in a log line. May be given several times.",
)
@region_option
@json_option
@click.pass_context
def train(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Run a training job locally, as SageMaker would.

    IMAGE is a local image or the ID of a cell. Ctrl-C stops the job as StopTrainingJob does. With --json, the log goes
    to standard error.

    The exit code is 0 if the job completed, 1 if it failed, and 130 if it was stopped.
    """
    from rlimages.emulator.job import EXIT_CODES
    from rlimages.emulator.train import TrainOptions, train, training_facts, training_lines

    with command_context() as context:
        run = train(
            TrainOptions(**options),
            matrix=ctx.obj,
            context=context,
            on_line=lambda line: click.echo(line, err=as_json),
        )
    if as_json:
        print_json(training_facts(run))
    else:
        print_lines(training_lines(run))
    ctx.exit(EXIT_CODES[run.result.status])


@click.command()
@instance_options
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    metavar="PORT",
    help="Port of this machine's loopback interface; 0 takes a free one.",
)
@json_option
@click.pass_context
def serve(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Run an endpoint locally, as SageMaker would.

    IMAGE is a local image or the ID of a cell. Ctrl-C stops the endpoint. With --json, each state of the endpoint is
    one line of JSON, and the log goes to standard error.

    The exit code is 0 if the endpoint was stopped in service, 1 if it failed or was unhealthy, and 130 if it was
    stopped before it was in service.
    """
    from rlimages.emulator.serve import ServeOptions, endpoint_exit_code, endpoint_facts, endpoint_lines, serve

    def print_state(endpoint: "Endpoint", state: "EndpointState") -> None:
        if as_json:
            print_json(endpoint_facts(endpoint, state), indent=None)
        else:
            print_lines(endpoint_lines(endpoint, state))

    with command_context() as context:
        endpoint, state = serve(
            ServeOptions(**options),
            matrix=ctx.obj,
            context=context,
            on_state=print_state,
            on_line=lambda line: click.echo(line, err=as_json),
        )
    print_state(endpoint, state)
    ctx.exit(endpoint_exit_code(state))


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--endpoint",
    metavar="NAME|PORT|URL",
    help="The endpoint. By default the one that runs on this machine, if there is only one.",
)
@click.option(
    "--content-type", metavar="TYPE", help="Content type of FILE. By default it follows from the extension of FILE."
)
@click.option("--accept", metavar="TYPE", help="Content type that the answer should have.")
@json_option
@click.pass_context
def invoke(
    ctx: click.Context, /, file: Path, endpoint: str | None, content_type: str | None, accept: str | None, as_json: bool
) -> None:
    """Send a file to a local endpoint and print the answer.

    FILE may be - for standard input, which is JSON unless --content-type says otherwise.

    The exit code is 0 for an answer with a status of 2xx. It is 1 for another status, or if no answer comes within 60
    seconds.
    """
    from rlimages.emulator.endpoint import find_content_type
    from rlimages.emulator.invoke import invoke_endpoint, read_body, response_facts

    is_stdin = str(file) == "-"
    body = sys.stdin.buffer.read() if is_stdin else read_body(file)
    kind = find_content_type("-.json" if is_stdin else str(file), content_type)
    address, response = invoke_endpoint(endpoint, body, content_type=kind, accept=accept)
    if as_json:
        print_json(response_facts(address, response))
    elif response.passed:
        # the bytes of the answer unchanged, so that they can be redirected to a file; a terminal gets a line break
        click.echo(response.body, nl=sys.stdout.isatty() and not response.body.endswith(b"\n"))
    if not response.passed:
        print_note(f"{address} answered {response.summary}")
    ctx.exit(0 if response.passed else FactoryError.exit_code)


@click.command()
@instance_options
@click.option(
    "--input",
    "source",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Folder of input files, or one file.",
)
@click.option(
    "--output",
    type=_OUTPUT_FOLDER,
    metavar="FOLDER",
    help="Folder for the outputs. The default is .rlimages/transforms/NAME.",
)
@click.option(
    "--content-type", metavar="TYPE", help="Content type of the files. By default it follows from their extensions."
)
@click.option("--accept", metavar="TYPE", help="Content type that the answers should have.")
@click.option(
    "--split-type",
    type=click.Choice(["None", "Line"]),
    default="None",
    show_default=True,
    help="Line splits each file into lines; each line is a record. With None, a file is one record.",
)
@click.option(
    "--batch-strategy",
    "strategy",
    type=click.Choice(["SingleRecord", "MultiRecord"]),
    help="Send one record in each request, or as many as --max-payload-in-mb allows.",
)
@click.option(
    "--assemble-with",
    type=click.Choice(["None", "Line"]),
    default="None",
    show_default=True,
    help="Line puts a line break after each answer in the output.",
)
@click.option(
    "--max-payload-in-mb",
    "payload",
    type=click.IntRange(0, 100),
    metavar="MB",
    help="Maximum size of a request; 0 means no limit.",
)
@click.option(
    "--max-concurrent-transforms",
    "concurrent",
    type=click.IntRange(0, 100),
    metavar="N",
    help="Maximum number of requests at the same time.",
)
@click.option(
    "--invocations-timeout",
    "timeout",
    type=click.IntRange(1, 3600),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of each request.",
)
@click.option(
    "--invocations-max-retries",
    "retries",
    type=click.IntRange(0, 3),
    default=3,
    show_default=True,
    metavar="N",
    help="How many times a failed request is repeated.",
)
@json_option
@click.pass_context
def transform(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Run a batch transform job locally, as SageMaker would.

    IMAGE is a local image or the ID of a cell. Every input file is sent to its model, and the answers to the file NAME
    are written to NAME.out. Options about requests that are not given are taken from the container
    (GET /execution-parameters).

    The exit code is 0 if the job completed, 1 if it failed, and 130 if it was stopped.
    """
    from rlimages.emulator.job import EXIT_CODES
    from rlimages.emulator.serve import ServeOptions
    from rlimages.emulator.transform import (
        TransformOptions,
        file_line,
        transform,
        transform_facts,
        transform_lines,
    )

    instance = ServeOptions(port=0, is_batch=True, **{name: options.pop(name) for name in _INSTANCE_OPTIONS})
    with command_context() as context:
        run = transform(
            TransformOptions(**options),
            instance,
            matrix=ctx.obj,
            context=context,
            on_line=lambda line: click.echo(line, err=as_json),
            on_file=lambda file: click.echo(file_line(file), err=as_json),
        )
    if as_json:
        print_json(transform_facts(run))
    else:
        print_lines(transform_lines(run))
    ctx.exit(EXIT_CODES[run.result.status])
