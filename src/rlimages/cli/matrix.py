"""Commands that read or write the matrix and its generated files: list, show, render, lock, uri."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import click

from rlimages.cli.common import chosen_cells, json_option, print_json, print_lines, project_of, select_option
from rlimages.errors import StaleError
from rlimages.matrix.cell import Cell


def cell_summary(cell: Cell) -> dict[str, Any]:
    """What `list --json` says of a cell."""
    return {
        "id": cell.id,
        "repository": cell.repository,
        "tags": list(cell.tags),
        "base": cell.base.image,
        "recipe": cell.recipe,
        "lock": cell.lock,
    }


def cell_facts(cell: Cell) -> dict[str, Any]:
    """What `show --json` says of a cell."""
    asked = cell.requirements
    return {
        **cell_summary(cell),
        "toolkit": cell.toolkit,
        "version": cell.version,
        "framework": _framework(cell),
        "processor": cell.processor.value,
        "python": cell.python,
        "cuda": cell.base.cuda,
        "os": cell.base.os,
        "line": cell.line,
        "registry": cell.registry,
        "base registry": cell.base.registry,
        "extends": cell.extends,
        "requirements": {
            "as of": asked.as_of,
            "direct": list(asked.direct),
            "overrides": list(asked.overrides),
            "build": list(asked.build),
        },
        "packages": {"run": list(cell.system.run), "build": list(cell.system.build)},
        "env": dict(cell.env),
        "workdir": cell.workdir,
        "display": cell.display,
        "inventory": dict(cell.inventory),
        "timeout": cell.timeout,
        "where": cell.where,
    }


def _framework(cell: Cell) -> dict[str, str] | None:
    return {"name": cell.framework.name, "version": cell.framework.version} if cell.framework else None


def cell_lines(cells: Iterable[Cell], *, wide: bool = False) -> str:
    """The table of `list`: columns as wide as they need to be, nothing cut. `wide` adds recipe and lock."""
    head = ("CELL", "IMAGE", "ALIASES", "BASE", "RECIPE", "LOCK")
    rows = [head]
    for cell in cells:
        rows.append((cell.id, cell.local_name, " ".join(cell.aliases) or "-", cell.base.image, cell.recipe, cell.lock))
    shown = [row if wide else row[:4] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in shown)


def cell_page(facts: Mapping[str, Any]) -> str:
    """The page of `show`: one fact a line, lists below their name."""
    text = f"{facts['id']}\n"
    for name, value in facts.items():
        if name != "id" and value not in (None, [], {}):
            text += _entry(name, value, "  ")
    return text


def _entry(name: str, value: Any, indent: str) -> str:
    if isinstance(value, list):
        return f"{indent}{name}:\n" + "".join(f"{indent}  {item}\n" for item in value)
    if isinstance(value, Mapping):
        return f"{indent}{name}:\n" + "".join(
            _entry(k, v, indent + "  ") for k, v in value.items() if v not in ([], {})
        )
    return f"{indent}{name}: {value}\n"


@click.command("list")
@select_option
@click.option("--wide", is_flag=True, help="Also recipe and lock.")
@json_option
@click.pass_context
def list_(ctx: click.Context, /, patterns: tuple[str, ...], wide: bool, as_json: bool) -> None:
    """Show the cells: id, tags, base, and with --wide or --json also recipe and lock."""
    cells = chosen_cells(project_of(ctx), patterns)
    if as_json:
        print_json([cell_summary(cell) for cell in cells])
    else:
        click.echo(cell_lines(cells, wide=wide), nl=False)


@click.command()
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
@click.option("--layers", is_flag=True, help="The layers of their images in the local store, or of other images there.")
@json_option
@click.pass_context
def show(ctx: click.Context, /, patterns: tuple[str, ...], layers: bool, as_json: bool) -> None:
    """Show everything about some cells, or what their images are made of."""
    if layers:
        from rlimages.cli.images import show_layers

        show_layers(patterns, ctx.obj, as_json=as_json)
        return
    shown = [cell_facts(cell) for cell in chosen_cells(project_of(ctx), patterns)]
    if as_json:
        print_json(shown)
    else:
        click.echo("\n".join(cell_page(cell) for cell in shown), nl=False)


@click.command()
@select_option
@click.option("--check", is_flag=True, help="Write nothing; show what would change and exit with 3.")
@click.pass_context
def render(ctx: click.Context, /, patterns: tuple[str, ...], check: bool) -> None:
    """Write the Dockerfiles and the other generated files; with --select, the Dockerfiles of these cells."""
    from rlimages.project.generated import diff_generated, write_generated

    project = project_of(ctx)
    cells = chosen_cells(project, patterns) if patterns else None
    if not check:
        print_lines(write_generated(project, cells))
    elif print_lines(diff_generated(project, cells)):
        raise StaleError("generated files are not what the matrix and the templates give; run `rlimages render`")


@click.command()
@select_option
@click.option("--check", is_flag=True, help="Write nothing, ask no network; name stale locks and exit with 3.")
@click.option("--force", is_flag=True, help="Resolve also what is not stale.")
@click.pass_context
def lock(ctx: click.Context, /, patterns: tuple[str, ...], check: bool, force: bool) -> None:
    """Resolve each cell's requirements, as of its date, into a lock with hashes."""
    from rlimages.project.update import find_stale_locks, update_locks

    project = project_of(ctx)
    cells = chosen_cells(project, patterns)
    if check:
        if print_lines(find_stale_locks(project, cells, everything=not patterns)):
            raise StaleError("locks are not what the matrix asks for; run `rlimages lock`")
        return
    print_lines(update_locks(project, cells, environ=os.environ, force=force))


@click.command()
@click.option("--toolkit", required=True)
@click.option("--version", "version", help="A version, or a minor version for its newest patch; by default the newest.")
@click.option("--framework", help="tf, torch or mxnet, or as the SDK spells them.")
@click.option("--processor", default="cpu", show_default=True, type=click.Choice(["cpu", "gpu"]))
@click.option("--line", default="sagemaker", show_default=True, help="The base line.")
@click.option("--region", help="us-west-2 if not said.")
@click.option("--account", help="Your own ECR account.")
@click.option("--registry", help="Your own registry: host[:port][/prefix].")
@click.pass_context
def uri(
    ctx: click.Context,
    /,
    toolkit: str,
    version: str | None,
    framework: str | None,
    processor: str,
    line: str,
    region: str | None,
    account: str | None,
    registry: str | None,
) -> None:
    """Print the address of one image."""
    from rlimages.matrix.uri import ImageQuery, find_cell, registry_host

    project = project_of(ctx)
    spelled = project.matrix.framework_name(framework) if framework else None
    question = ImageQuery(
        toolkit=toolkit,
        version=version,
        framework=spelled,
        processor=processor,
        line=line,
        published=not (account or registry),
    )
    cell = find_cell(project.cells, question)
    wanted = region or project.accounts.default_region
    host = registry_host(cell, project.accounts, region=wanted, account=account, registry=registry)
    click.echo(f"{host}/{cell.local_name}")
