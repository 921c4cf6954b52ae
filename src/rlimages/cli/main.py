"""The command `rlimages`: finds a command by name, and turns an error into a sentence and an exit code."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from rlimages import __version__
from rlimages.errors import FactoryError

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # the look for plugins costs a tenth of the start-up
COMMANDS = {
    "matrix": ("list", "show", "render", "lock", "uri"),
    "build": ("plan", "build", "smoke", "run", "bases"),
    "release": ("publish", "promote", "gc", "sdk-config"),
    "images": ("accept", "sbom", "verify", "reproduce"),
    "emulate": ("train", "serve", "invoke", "transform"),
    "doctor": ("doctor",),
}
"""The commands of each module of this package. A module is imported only when one of its commands is asked for."""


class RlimagesGroup(click.Group):
    """The one place where an error becomes a sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted(name for names in COMMANDS.values() for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return the command; None if there is no such command."""
        for module, names in COMMANDS.items():
            if cmd_name in names:
                found = vars(import_module(f"rlimages.cli.{module}")).values()
                return next(item for item in found if isinstance(item, click.Command) and item.name == cmd_name)
        return None

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; a `FactoryError` is printed as it is, and its class gives the exit code."""
        try:
            return super().invoke(ctx)
        except FactoryError as error:
            several = "\n" in str(error)
            click.echo(f"rlimages: {error}" if not several else str(error), err=True)
            ctx.exit(error.exit_code)


@click.group(cls=RlimagesGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rlimages")
@click.option("--matrix", type=click.Path(path_type=Path), help="The build matrix; by default the nearest one above.")
@click.pass_context
def main(ctx: click.Context, /, matrix: Path | None) -> None:
    """Build, test and publish reinforcement learning images for Amazon SageMaker from one matrix.

    Exit codes: 0 passed, 1 something failed, 2 the matrix or the command line, 3 stale recipes or locks, 4 a missing
    tool or engine, 5 nothing selected, 6 a template, 7 the registry refused, 8 an image that its target
    would refuse, 130 interrupted.
    """
    ctx.obj = matrix
