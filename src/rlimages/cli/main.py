"""Define the program `rlimages`: it imports and runs the command that is named, and turns errors into exit codes."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from rlimages import __version__
from rlimages.errors import FactoryError

# Before pydantic is imported: its search for plugins among the installed packages takes a tenth of the start-up time.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
COMMANDS = {
    "Build": {"plan": "build", "build": "build", "smoke": "build", "run": "build", "bases": "build"},
    "Release": {"publish": "release", "promote": "release", "gc": "release", "sdk-config": "release"},
    "Inspect images": {"accept": "images", "sbom": "images", "verify": "images", "reproduce": "images"},
    "Run locally": {"train": "emulate", "serve": "emulate", "invoke": "emulate", "transform": "emulate"},
    "Project": {
        "list": "matrix", "show": "matrix", "uri": "matrix", "render": "matrix", "lock": "matrix", "doctor": "doctor",
    },
}  # fmt: skip
"""Title of the group in the help -> (name of the command -> module of `rlimages.cli` that defines it)."""
_MODULES = {name: module for group in COMMANDS.values() for name, module in group.items()}
_EXIT_CODES = """
\b
Exit codes:
  0    everything passed
  1    a build, a check, a job or a request failed
  2    a mistake on the command line, in the matrix or in another file
  3    a Dockerfile or a lock is out of date
  4    a program or the Docker engine is missing
  5    no cell or image is selected
  6    a template cannot be rendered
  7    a registry refused a request or did not answer
  8    an image breaks the acceptance rules
  10   plan: there is something to do
  130  interrupted
"""


class RlimagesGroup(click.Group):
    """The group of all commands. The module of a command is imported when it is called, so that start-up stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that defines the command `cmd_name` and return the command; None if none has this name."""
        module = _MODULES.get(cmd_name)
        if module is None:
            return None
        values = vars(import_module(f"rlimages.cli.{module}")).values()
        return next(value for value in values if isinstance(value, click.Command) and value.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands for the help to `formatter`, in the groups and the order of `COMMANDS`."""
        # as in click's own list: two columns with a margin, the first as wide as the longest name
        limit = formatter.width - 6 - max(len(name) for name in _MODULES)
        for title, names in COMMANDS.items():
            commands = ((name, self.get_command(ctx, name)) for name in names)
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (name.ljust(max(map(len, _MODULES))), command.get_short_help_str(limit))
                        for name, command in commands
                        if command
                    ]
                )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments name, and return its result.

        If it raises a `FactoryError`, print the error's text on standard error and exit with the error's exit code.
        """
        try:
            return super().invoke(ctx)
        except FactoryError as error:
            # an error of several lines lists mistakes in files, each of which begins with the file's name
            has_lines = "\n" in str(error)
            click.echo(str(error) if has_lines else f"rlimages: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(
    cls=RlimagesGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXIT_CODES,
)
@click.version_option(__version__, prog_name="rlimages")
@click.option(
    "--matrix",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The build matrix. The default is build_matrix.yaml in this folder or the nearest one above.",
)
@click.pass_context
def main(ctx: click.Context, /, matrix: Path | None) -> None:
    """Build, test and publish reinforcement learning images for SageMaker.

    A build matrix, build_matrix.yaml, declares the images. One image is a cell: a version of a toolkit, with a
    framework, for a processor, on a base image. `rlimages list` shows the cells.
    """
    ctx.obj = matrix
