"""Release images to all registries of a target at once: one transaction for each registry.

A registry that fails does not stop the other registries. `deliver` shows the order of the steps in one registry.
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
"""Registries that a release is delivered to at the same time."""


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
    """Release the images of `source` to the registry of each connection. Return the results in the same order.

    A failure in one registry is recorded in its result and in the journal, and is not raised. `pass_records`, by cell
    id, are pushed beside the images. `requirements` are checked after all images of a registry are uploaded and before
    the first tag moves. `allow_older` lets tags move to older images. `on_progress` gets the registry's name and the
    step. If the journal says that a registry has the whole release already, that registry is not contacted. Raises
    `FactoryError` if the journal cannot be written.
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
            # Requirements come before the tags: nobody pulls an image by its tag before it is scanned and signed.
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
    """Undo every tag move of `release`: set the tag to the digest from before. Return a result for each connection.

    The results have the order of `connections`; a failure in one registry is in its result, and is not raised.
    `on_progress` gets the registry's name and the step. Raises `FactoryError` if the journal cannot be written.
    """

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
    """Raise `RegistryError` if no registry answers at `host[:port]`.

    Requests to a busy registry are repeated for minutes. This check fails within seconds if there is no registry.
    """
    if not is_reachable(host):
        hint = "is it running?" if is_loopback(host) else "check the name, the network and the proxy"
        raise RegistryError(f"cannot reach the registry {host}; {hint}")


def _tag_by_build(connection: RegistryConnection, item: ReleaseItem, manifest: Manifest) -> None:
    """Set the tag `build-<digits>` on the uploaded `manifest`; later runs find an image by its build digest.

    The digits are the first ones of the build digest (the digest of all build inputs). An item without a build digest
    gets no tag. A `RegistryError` is ignored.
    """
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
    """Call `work` with each connection, a few at the same time. Return the results in the order of `connections`."""
    with ThreadPoolExecutor(max_workers=PARALLEL_REGISTRIES, thread_name_prefix="registry") as pool:
        return tuple(pool.map(work, connections))


def _run(
    release: Release, connection: RegistryConnection, transaction: ReleaseTransaction, steps: Callable[[], None]
) -> RegistryResult:
    """Call `steps`, which does the work of `transaction` in one registry. Return the result, and close the connection.

    A `FactoryError` or `Interrupted` of `steps` becomes the result's reason and a `Failed` event of the journal. Raises
    `FactoryError` only if that event cannot be written.
    """
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
