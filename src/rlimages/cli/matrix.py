"""Define the commands on the matrix and the files that are generated from it: list, show, uri, render, lock."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import click

from rlimages.cli.common import command_project, json_option, print_json, print_lines, select_option, selected_cells
from rlimages.errors import StaleError
from rlimages.matrix.cell import Cell


def cell_summary(cell: Cell) -> dict[str, Any]:
    """Return the JSON object that `list --json` prints for `cell`: its image, base image, Dockerfile and lock."""
    return {
        "id": cell.id,
        "repository": cell.repository,
        "tags": list(cell.tags),
        "base": cell.base.image,
        "recipe": cell.dockerfile,
        "lock": cell.lock,
    }


def cell_facts(cell: Cell) -> dict[str, Any]:
    """Return the JSON object that `show --json` prints for `cell`: all its properties."""
    requirements = cell.requirements
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
            "as of": requirements.as_of,
            "direct": list(requirements.direct),
            "overrides": list(requirements.overrides),
            "build": list(requirements.build),
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
    """Return the text of the table that `list` prints, with one line for each of `cells` below a line of titles.

    `wide` adds columns with the paths of the Dockerfile and the lock. A column is as wide as its longest value.
    """
    head = ("CELL", "IMAGE", "ALIASES", "BASE", "DOCKERFILE", "LOCK")
    rows = [head]
    for cell in cells:
        rows.append(
            (cell.id, cell.local_name, " ".join(cell.aliases) or "-", cell.base.image, cell.dockerfile, cell.lock)
        )
    shown = [row if wide else row[:4] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in shown)


def cell_page(facts: Mapping[str, Any]) -> str:
    """Return the text that `show` prints for a cell: one property in each line, and the items of lists below its name.

    `facts` are the cell's properties, as `cell_facts` returns them. Empty properties are left out.
    """
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
@click.option("--wide", is_flag=True, help="Also show the paths of the Dockerfile and the lock.")
@json_option
@click.pass_context
def list_(ctx: click.Context, /, patterns: tuple[str, ...], wide: bool, as_json: bool) -> None:
    """List the cells with their images, aliases and bases."""
    cells = selected_cells(command_project(ctx), patterns)
    if as_json:
        print_json([cell_summary(cell) for cell in cells])
    else:
        click.echo(cell_lines(cells, wide=wide), nl=False)


@click.command()
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
@click.option(
    "--layers",
    is_flag=True,
    help="Show the layers of the cells' local images. PATTERN may also be the name of another local image.",
)
@json_option
@click.pass_context
def show(ctx: click.Context, /, patterns: tuple[str, ...], layers: bool, as_json: bool) -> None:
    """Show all properties of cells, or the layers of images.

    PATTERN is the ID of a cell; `*` and `?` match.
    """
    if layers:
        from rlimages.cli.images import show_layers

        show_layers(patterns, ctx.obj, as_json=as_json)
        return
    shown = [cell_facts(cell) for cell in selected_cells(command_project(ctx), patterns)]
    if as_json:
        print_json(shown)
    else:
        click.echo("\n".join(cell_page(cell) for cell in shown), nl=False)


@click.command()
@select_option
@click.option("--check", is_flag=True, help="Write nothing. Show what would change, and exit with 3 if anything would.")
@click.pass_context
def render(ctx: click.Context, /, patterns: tuple[str, ...], check: bool) -> None:
    """Write the Dockerfiles and the other generated files.

    They are generated from the matrix and the templates. With --select, only the Dockerfiles of these cells are
    written.
    """
    from rlimages.project.generated import diff_generated, write_generated

    project = command_project(ctx)
    cells = selected_cells(project, patterns) if patterns else None
    if not check:
        print_lines(write_generated(project, cells))
    elif print_lines(diff_generated(project, cells)):
        raise StaleError("generated files are not what the matrix and the templates give; run `rlimages render`")


@click.command()
@select_option
@click.option(
    "--check",
    is_flag=True,
    help="Write nothing and use no network. List outdated locks, and exit with 3 if there are any.",
)
@click.option("--force", is_flag=True, help="Resolve all locks, also those that are up to date.")
@click.pass_context
def lock(ctx: click.Context, /, patterns: tuple[str, ...], check: bool, force: bool) -> None:
    """Resolve Python requirements into lock files with hashes.

    The requirements of each cell are resolved with the releases that existed on its date (`as_of`).
    """
    from rlimages.project.update import find_stale_locks, update_locks

    project = command_project(ctx)
    cells = selected_cells(project, patterns)
    if check:
        if print_lines(find_stale_locks(project, cells, everything=not patterns)):
            raise StaleError("locks are not what the matrix asks for; run `rlimages lock`")
        return
    print_lines(update_locks(project, cells, environ=os.environ, force=force))


@click.command()
@click.option("--toolkit", required=True, metavar="NAME", help="The toolkit, as in the ids of the cells.")
@click.option(
    "--version",
    "version",
    metavar="VERSION",
    help="The toolkit's version. A minor version means its newest patch version. The default is the newest version.",
)
@click.option("--framework", metavar="NAME", help="tf, torch or mxnet, or the name that the SageMaker SDK uses.")
@click.option(
    "--processor",
    default="cpu",
    show_default=True,
    type=click.Choice(["cpu", "gpu"]),
    help="The processor that the image is for.",
)
@click.option(
    "--line",
    default="sagemaker",
    show_default=True,
    metavar="LINE",
    help="The line of base images: sagemaker, or a suffix of cell ids such as debian.",
)
@click.option("--region", metavar="REGION", help="AWS region of the registry; us-west-2 by default.")
@click.option("--account", metavar="ACCOUNT", help="Your own AWS account, if the image is in its ECR registry.")
@click.option("--registry", metavar="REGISTRY", help="Your own registry: host[:port][/prefix].")
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
    """Print the registry address of one image.

    Without --account and --registry it is the address at which SageMaker published the image.
    """
    from rlimages.matrix.uri import ImageQuery, find_cell, registry_host

    project = command_project(ctx)
    query = ImageQuery(
        toolkit=toolkit,
        version=version,
        framework=project.matrix.framework_name(framework) if framework else None,
        processor=processor,
        line=line,
        published=not (account or registry),
    )
    cell = find_cell(project.cells, query)
    region = region or project.accounts.default_region
    host = registry_host(cell, project.accounts, region=region, account=account, registry=registry)
    click.echo(f"{host}/{cell.local_name}")
