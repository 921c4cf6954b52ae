"""Release images to all registries of a target at once: one transaction for each registry.

A registry that fails does not stop the others. `deliver` shows the order of the steps in one registry.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import monotonic

from rlimages.checks.pass_record import PassRecord, attach_record
from rlimages.errors import FactoryError, Interrupted, RegistryError
from rlimages.oci.manifest import Manifest
from rlimages.registry.http import is_loopback, is_reachable
from rlimages.release.journal import Failed, Release
from rlimages.release.model import RegistryConnection, ReleaseItem, ReleaseState, ReportProgress
from rlimages.release.requirements import RequirementChecker
from rlimages.release.results import INTERRUPTED, RegistryResult, registry_result
from rlimages.release.sources import ImageSource
from rlimages.release.tags import build_tag
from rlimages.release.transaction import ReleaseTransaction
from rlimages.system.process import Stop

PARALLEL_REGISTRIES = 4
"""Registries that are served at once."""


def deliver(
    release: Release,
    connections: Sequence[RegistryConnection],
    source: ImageSource,
    *,
    pass_records: Mapping[str, PassRecord],
    requirements: RequirementChecker,
    allow_older: bool,
    stop: Stop,
    on_progress: ReportProgress,
) -> tuple[RegistryResult, ...]:
    """Release the images of `source` to each registry, as far as it goes. Return the result of each registry.

    `pass_records`, by cell, are stored beside the images. `requirements` are checked when all images of a registry are
    uploaded: if one is not met, no tag moves there. A registry that the journal has as released is not contacted.
    """

    def release_to(connection: RegistryConnection) -> RegistryResult:
        registry = connection.registry
        transaction = ReleaseTransaction(
            connection, release, stop=stop, allow_older=allow_older, on_progress=partial(on_progress, registry.name)
        )

        def steps() -> None:
            if transaction.state is ReleaseState.RELEASED:
                return
            _require_reachable(registry.host)
            for repository in dict.fromkeys(registry.repository(item) for item in release.items):
                if connection.ensure_repository(repository):
                    on_progress(registry.name, f"created the repository {repository}")
            transaction.upload(source)
            for item in release.items:
                if item.cell in pass_records:
                    subject, repository = transaction.staged_manifest(item), registry.repository(item)
                    attach_record(pass_records[item.cell], subject, connection.client, repository)
            digests = {item: transaction.staged_manifest(item).digest for item in release.items}
            requirements.check(connection, digests, on_progress)
            transaction.move_tags()
            for item in release.items:
                _tag_by_build(connection, item, transaction.staged_manifest(item))

        return _run(release, connection, transaction, steps)

    return _in_parallel(connections, release_to)


def roll_back(
    release: Release, connections: Sequence[RegistryConnection], *, stop: Stop, on_progress: ReportProgress
) -> tuple[RegistryResult, ...]:
    """Move every tag that a release moved back to its digest from before. Return the result of each registry."""

    def roll_back_in(connection: RegistryConnection) -> RegistryResult:
        registry = connection.registry
        transaction = ReleaseTransaction(
            connection, release, stop=stop, on_progress=partial(on_progress, registry.name)
        )

        def steps() -> None:
            _require_reachable(registry.host)
            transaction.roll_back()

        return _run(release, connection, transaction, steps)

    return _in_parallel(connections, roll_back_in)


def _require_reachable(host: str) -> None:
    """Raise `RegistryError` if nothing answers at a registry's address.

    A busy registry is asked again for minutes. This finds out at once that there is no registry to wait for.
    """
    if not is_reachable(host):
        hint = "is it running?" if is_loopback(host) else "check the name, the network and the proxy"
        raise RegistryError(f"cannot reach the registry {host}; {hint}")


def _tag_by_build(connection: RegistryConnection, item: ReleaseItem, manifest: Manifest) -> None:
    """Set the tag by which later runs find the image of these inputs."""
    if not item.build:
        return
    repository, tag = connection.registry.repository(item), build_tag(item.build)
    # The release is complete without this tag: if it cannot be set, the next run only builds the image again.
    with suppress(RegistryError):
        present = connection.client.read_manifest(repository, tag)
        if present is None or present.digest != manifest.digest:
            connection.client.put_manifest(repository, tag, manifest)


def _in_parallel(
    connections: Sequence[RegistryConnection], work: Callable[[RegistryConnection], RegistryResult]
) -> tuple[RegistryResult, ...]:
    with ThreadPoolExecutor(max_workers=PARALLEL_REGISTRIES, thread_name_prefix="registry") as pool:
        return tuple(pool.map(work, connections))


def _run(
    release: Release, connection: RegistryConnection, transaction: ReleaseTransaction, steps: Callable[[], None]
) -> RegistryResult:
    """Run the steps in one registry. A failure is recorded in the journal and in the result, not raised."""
    started = monotonic()
    reason = ""
    try:
        steps()
    except Interrupted:
        reason = INTERRUPTED
    except FactoryError as error:
        reason = str(error)
    try:
        if reason:
            release.journal.write(Failed(registry=connection.registry.name, reason=reason))
        return registry_result(release, connection, transaction.state, reason, monotonic() - started)
    finally:
        connection.client.close()
