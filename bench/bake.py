"""The commands of a plan as a file for `docker buildx bake`: the same builds, for another driver."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any


def bake_file(commands: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Cell -> command line of `docker buildx build`, as one group of targets.

    Raises `SystemExit` for an option that it does not know: bake must not build something else in silence.
    """
    targets = {_name(cell): _target(command) for cell, command in commands.items()}
    return {"group": {"default": {"targets": list(targets)}}, "target": targets}


def _name(cell: str) -> str:
    return cell.replace(".", "_")


def _target(command: Sequence[str]) -> dict[str, Any]:
    said = _parser().parse_args(command[3:])
    return {
        "context": said.context,
        "dockerfile": said.file,
        "tags": said.tag,
        "args": _pairs(said.build_arg),
        "contexts": _pairs(said.build_context),
        "labels": _pairs(said.label),
        "no-cache": said.no_cache,
        "output": ["type=docker"],
    }


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """Bake expands `${…}` and `%{…}`; what a plan says is meant as it stands."""
    pairs = (word.partition("=") for word in words)
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
