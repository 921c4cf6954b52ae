"""Define the commands that work on registries: publish, promote, gc, sdk-config."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages.cli.common import (
    allow_older_option,
    command_context,
    command_project,
    jobs_option,
    json_option,
    print_json,
    print_lines,
    require_one_target,
    run_stages,
    select_option,
    selected_cells,
    target_options,
)
from rlimages.errors import RegistryError, UsageError

if TYPE_CHECKING:
    from rlimages.release.gc import GcResult


@click.command()
@select_option
@target_options
@jobs_option
@click.option(
    "--resume",
    is_flag=False,
    flag_value="latest",
    metavar="RELEASE",
    help="Continue an interrupted release. Without RELEASE, the newest one.",
)
@click.option(
    "--rollback",
    is_flag=False,
    flag_value="latest",
    metavar="RELEASE",
    help="Move the tags of a release back to their previous images. Without RELEASE, the newest one.",
)
@click.pass_context
def publish(
    ctx: click.Context, /, patterns: tuple[str, ...], resume: str | None, rollback: str | None, **options: Any
) -> None:
    """Publish the local images that passed their checks.

    With --to, images that failed a check are left out. With --target, one failed check or acceptance rule stops the
    whole release before it starts. All images are uploaded and verified before the first tag moves.
    """
    if resume is None and rollback is None:
        require_one_target(options)
        run_stages(ctx, patterns, ("smoke", "publish"), **options)
    elif resume is not None and rollback is not None:
        raise UsageError("--resume continues a release and --rollback undoes it; give one of them")
    elif rollback is not None:
        _roll_back(ctx, rollback)
    else:
        _resume(ctx, resume or "", allow_older=options["allow_older"])


def _resume(ctx: click.Context, name: str, *, allow_older: bool) -> None:
    """Resume the release `name` (`latest` is the newest), print the result of each registry, and exit.

    If `allow_older`, tags may move to older images.
    """
    from rlimages.release.results import release_exit_code, release_lines
    from rlimages.release.resume import resume_release

    with command_context() as context:
        results = resume_release(command_project(ctx), name, allow_older=allow_older, context=context)
    print_lines(release_lines(results))
    ctx.exit(release_exit_code(results))


def _roll_back(ctx: click.Context, name: str) -> None:
    """Move the tags of the release `name` (`latest` is the newest) back to their previous images.

    The result of each registry is printed, and the process exits with the exit code of the results.
    """
    from rlimages.release.results import release_exit_code, release_lines
    from rlimages.release.resume import roll_back_release

    with command_context() as context:
        results = roll_back_release(command_project(ctx), name, context=context)
    print_lines(release_lines(results))
    ctx.exit(release_exit_code(results))


@click.command()
@select_option
@click.option("--target", required=True, metavar="NAME", help="Target of targets.yaml to copy the images to.")
@click.option(
    "--from",
    "source",
    default="",
    metavar="NAME",
    help="Target to copy the images from. The default is `promote_from` of the target.",
)
@allow_older_option
@click.pass_context
def promote(ctx: click.Context, /, patterns: tuple[str, ...], target: str, source: str, allow_older: bool) -> None:
    """Copy images from one target to another.

    The images are copied from registry to registry, byte for byte. Only images with a record of passed checks are
    copied; if one image has none, no image is copied.
    """
    from rlimages.release.promote import promote
    from rlimages.release.results import release_exit_code, release_lines

    project = command_project(ctx)
    cells = selected_cells(project, patterns)
    with command_context() as context:
        name, results = promote(project, cells, target, source, allow_older=allow_older, context=context)
    print_lines(release_lines(results))
    code = release_exit_code(results)
    if code:
        click.echo(f"resume it with `rlimages publish --resume {name}`")
    ctx.exit(code)


@click.command("sdk-config")
@select_option
@click.option(
    "--target", default="", metavar="NAME", help="Describe the images in this target of targets.yaml, in its regions."
)
@click.option("--account", default="", metavar="ACCOUNT", help="Describe the images in your own ECR account.")
@click.option(
    "--region",
    "regions",
    multiple=True,
    metavar="REGION",
    help="With --account: a region of the images. May be given several times. The default is us-west-2.",
)
@click.option(
    "--line",
    default="sagemaker",
    show_default=True,
    metavar="LINE",
    help="The line of base images whose versions are plain numbers. Other versions get a suffix: 2.9.3-debian.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write files into this folder instead of printing them.",
)
@click.pass_context
def sdk_config(
    ctx: click.Context,
    /,
    patterns: tuple[str, ...],
    target: str,
    account: str,
    regions: tuple[str, ...],
    line: str,
    output: Path | None,
) -> None:
    """Write the SageMaker SDK's configuration of image URIs.

    There is one JSON file for each toolkit and framework, in the format of the SDK's image_uri_config. Without
    --target and --account it describes the images that SageMaker published.
    """
    from rlimages.release.sdk_config import sdk_configs, write_configs

    if target and (account or regions):
        raise UsageError("a target has its account and regions in targets.yaml; give --target alone")
    if regions and not account:
        raise UsageError("--region needs --account: the account that has the images")
    if account and not (len(account) == 12 and account.isdecimal()):
        raise UsageError(f"--account {account}: an AWS account has twelve digits")
    project = command_project(ctx)
    cells = selected_cells(project, patterns)
    configs = sdk_configs(project, cells, target=target, account=account, regions=regions, line=line)
    if output is None:
        print_json(configs, indent=4)  # the indentation of the SDK's own files
    else:
        texts = {name: json.dumps(config, indent=4) + "\n" for name, config in configs.items()}
        print_lines(write_configs(texts, output))


@click.command()
@click.option("--target", required=True, metavar="NAME", help="Target of targets.yaml to clean up.")
@click.option(
    "--older-than",
    default="30d",
    show_default=True,
    metavar="AGE",
    help="Delete only what is at least this old: 36h, 30d, 8w.",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="PATTERN",
    help="Keep images with a matching tag; `*` and `?` match. May be given several times.",
)
@click.option("--delete", is_flag=True, help="Delete them. Without this option nothing is changed.")
@json_option
@click.pass_context
def gc(ctx: click.Context, /, target: str, older_than: str, keep: tuple[str, ...], delete: bool, as_json: bool) -> None:
    """Show or delete the images that a target no longer needs.

    These are old images without a tag of the matrix, and the pass records, signatures and temporary tags that are left
    of images and releases.

    The exit code is 7 if a registry could not be read or something could not be deleted.
    """
    from rlimages.release.gc import collect_garbage
    from rlimages.system.units import parse_duration

    results: list[GcResult] = []
    with command_context() as context:
        for result in collect_garbage(
            command_project(ctx),
            target,
            older_than=parse_duration(older_than),
            keep=keep,
            delete=delete,
            now=datetime.now(UTC),
            context=context,
        ):
            results.append(result)
            if not as_json and result.decision.delete:
                click.echo(_gc_line(result, delete=delete))
    if as_json:
        print_json([_gc_facts(result, delete=delete) for result in results])
    else:
        click.echo(_gc_summary(results, delete=delete))
    ctx.exit(RegistryError.exit_code if any(result.error for result in results) else 0)


def _gc_line(result: "GcResult", *, delete: bool) -> str:
    decision = result.decision
    state = "not deleted" if result.error else "deleted" if delete else "would be deleted"
    tags = " ".join(decision.tags) or "no tag"
    subject = f"{decision.kind} {result.repository}@{decision.digest} ({tags})"
    return f"{state}: {subject}: {result.error or decision.reason}"


def _gc_summary(results: "Sequence[GcResult]", *, delete: bool) -> str:
    unneeded = sum(result.decision.delete for result in results)
    if delete:
        deleted = unneeded - sum(bool(result.error) for result in results)
        return f"{deleted} deleted, {len(results) - deleted} kept"
    hint = "; --delete deletes them" if unneeded else ""
    return f"{unneeded} would be deleted, {len(results) - unneeded} kept{hint}"


def _gc_facts(result: "GcResult", *, delete: bool) -> dict[str, Any]:
    decision = result.decision
    return {
        "place": result.registry,
        "repository": result.repository,
        "kind": decision.kind.value,
        "digest": decision.digest,
        "tags": list(decision.tags),
        "goes": decision.delete,
        "deleted": decision.delete and delete and not result.error,
        "why": decision.reason,
        "error": result.error,
    }
