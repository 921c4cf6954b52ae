"""The options that several verbs share, each said once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rlimages.errors import UsageError
from rlimages.room import FLOOR, size, spoken

Command = Callable[..., Any]


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in this order in the help."""

    def apply(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


def _bytes(_ctx: click.Context, param: click.Parameter, value: str) -> int:
    """`5GB` -> 5000000000."""
    try:
        return size(value)
    except UsageError as error:
        raise UsageError(f"{param.opts[0]} {error}") from error


selecting = click.option(
    "--select", "patterns", multiple=True, metavar="PATTERN", help="Cells by id, with * and ?. May be repeated."
)
as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
where = together(
    click.option("--region", help="Region to pull SageMaker's base images from."),
    click.option("--base-override", "overrides", multiple=True, metavar="REGEX=REF", help="Stand-in for bases."),
    click.option(
        "--base-overrides", "override_file", type=click.Path(path_type=Path), help="A file of REGEX=REF lines."
    ),
)
building = together(
    where,
    click.option(
        "--wheels",
        multiple=True,
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Folders of wheels for the builds, beside those of this machine's pip configuration.",
    ),
    click.option("--jobs", "-j", type=click.IntRange(min=1), help="Builds at once; by default what the machine fits."),
    click.option("--no-cache", is_flag=True, help="Build also what is up to date, and from nothing."),
    click.option(
        "--cache-from",
        multiple=True,
        metavar="REGISTRY",
        help="Take layers from the cells' images there: host[:port][/prefix]. May be repeated.",
    ),
    click.option("--inline-cache", is_flag=True, help="Make images that --cache-from can take layers from."),
    click.option(
        "--disk-floor",
        callback=_bytes,
        default=spoken(FLOOR),
        show_default=True,
        envvar="RLIMAGES_DISK_FLOOR",
        show_envvar=True,
        metavar="SIZE",
        help="Begin no build that would leave less free where the engine keeps its data.",
    ),
    click.option(
        "--timeout", type=click.IntRange(min=1), help="Seconds for one build; by default what the matrix says."
    ),
)
to = together(
    click.option("--to", default="", metavar="REGISTRY", help="Registry to publish to: host[:port][/prefix]."),
    click.option("--target", default="", metavar="NAME", help="Target of targets.yaml to publish to, all or nothing."),
    click.option("--allow-older", is_flag=True, help="Let tags go back from a newer image to an older one."),
)
fresh = click.option("--fresh", is_flag=True, help="Run checks again that passed before for this very image.")
at_once = click.option("--jobs", "-j", type=click.IntRange(min=1), help="Cells at once; by default what fits.")
since = click.option(
    "--since", default="", metavar="COMMIT", help="Only the cells whose inputs or checks are not what they were there."
)


def insist_on_one_place(words: dict[str, Any]) -> None:
    """Raises `UsageError` unless exactly one of --to and --target is given."""
    if bool(words["to"]) == bool(words["target"]):
        raise UsageError("say where to publish to: --to host[:port][/prefix], or --target with a name in targets.yaml")
