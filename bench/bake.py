"""Convert the build commands of a plan to a definition for `docker buildx bake`."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any


def bake_definition(commands: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return a bake file with one target for each cell. `commands` has the `docker buildx build` command by cell id.

    Raises `SystemExit` for an option that is not known here: otherwise bake would build something else unnoticed.
    """
    targets = {_name(cell): _target(command) for cell, command in commands.items()}
    return {"group": {"default": {"targets": list(targets)}}, "target": targets}


def _name(cell: str) -> str:
    return cell.replace(".", "_")


def _target(command: Sequence[str]) -> dict[str, Any]:
    arguments = _parser().parse_args(command[3:])  # after `docker buildx build`
    return {
        "context": arguments.context,
        "dockerfile": arguments.file,
        "tags": arguments.tag,
        "args": _pairs(arguments.build_arg),
        "contexts": _pairs(arguments.build_context),
        "labels": _pairs(arguments.label),
        "no-cache": arguments.no_cache,
        "output": ["type=docker"],
    }


def _pairs(arguments: Sequence[str]) -> dict[str, str]:
    """Split `NAME=VALUE` arguments. Bake expands `${…}` and `%{…}` in values, so these are escaped."""
    pairs = (argument.partition("=") for argument in arguments)
    return {name: value.replace("${", "$${").replace("%{", "%%{") for name, _, value in pairs}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="docker buildx build", allow_abbrev=False)
    for flag in ("--load", "--no-cache"):
        parser.add_argument(flag, action="store_true")
    for option in ("--file", "--metadata-file", "--progress", "--provenance", "--sbom"):
        parser.add_argument(option)
    for option in ("--build-arg", "--build-context", "--label", "--tag"):
        parser.add_argument(option, action="append", default=[])
    parser.add_argument("context")
    return parser
