"""Release images to one registry as a transaction: upload all images, read them back, then move the tags.

The journal records the digest that each tag had (`Expected`), each uploaded image (`Staged`), each move before it is
made (`Moving`), and the end (`Released` or `RolledBack`). Each step first looks in the journal, so it may be repeated
after any failure, also by another process.
"""

from collections.abc import Callable, Iterator

from packaging.version import InvalidVersion, Version

from rlimages.errors import FactoryError, Interrupted, RegistryError
from rlimages.oci.labels import VERSION_LABEL
from rlimages.oci.manifest import ImageConfig, Manifest, parse_config
from rlimages.registry.client import RegistryClient, upload_image
from rlimages.release.journal import Expected, Moving, Release, Released, RolledBack, RunTagLeft, Staged
from rlimages.release.model import RegistryConnection, ReleaseItem, ReleaseState
from rlimages.release.sources import ImageSource
from rlimages.release.tags import run_tag
from rlimages.system.process import Stop


class ReleaseTransaction:
    """The transaction of a release in one registry. Every method may be repeated after a failure."""

    def __init__(
        self,
        connection: RegistryConnection,
        release: Release,
        *,
        stop: Stop,
        allow_older: bool = False,
        on_progress: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Release the items of `release` to the registry of `connection`. Nothing is sent before a method is called.

        `allow_older` lets tags move to older images. `upload` and `move_tags` raise `Interrupted` if `stop` is set.
        `on_progress` gets a line for each step.
        """
        self._connection = connection
        self._registry = connection.registry
        self._client = connection.client
        self._release = release
        self._items = release.items
        self._journal = release.journal
        self._stop = stop
        self._allow_older = allow_older
        self._on_progress = on_progress

    @property
    def state(self) -> ReleaseState:
        """The state of the release in this registry, as the journal shows it. The registry is not contacted."""
        name = self._registry.name
        if self._journal.find(RolledBack, registry=name):
            return ReleaseState.ROLLED_BACK
        if self._journal.find(Released, registry=name):
            return ReleaseState.RELEASED
        return ReleaseState.BETWEEN if self._journal.find(Moving, registry=name) else ReleaseState.UNTOUCHED

    def upload(self, source: ImageSource) -> None:
        """Record the digest of every tag in the journal, then upload all images from `source`. No tag is moved.

        If the journal says that an image was uploaded, it is not uploaded again. Raises `FactoryError` if an image
        cannot be read, packed, uploaded or read back.
        """
        # Recorded before the uploads, which take minutes: a tag that somebody else moves meanwhile has another digest
        # when it is checked in `move_tags`, and is not overwritten.
        for item, tag in self._each_tag():
            self._record_expected(item, tag)
        for item in self._items:
            self._upload_item(item, source)

    def staged_manifest(self, item: ReleaseItem) -> Manifest:
        """Return the uploaded manifest of `item`, read from the registry.

        Raises `RegistryError` if it was not uploaded by this release, or was deleted since.
        """
        staged = self._journal.find(Staged, registry=self._registry.name, cell=item.cell)
        manifest = self._client.read_manifest(staged[-1].repository, staged[-1].digest) if staged else None
        if manifest is None:
            raise RegistryError(
                f"{self._registry.name}: {item.cell} was not uploaded, or was deleted again; start a new release"
            )
        return manifest

    def move_tags(self) -> None:
        """Move all tags to the uploaded images, read them back, and record the end of the release in the journal.

        Raises `RegistryError` before the first move if one tag has another image than when the release started, must
        not move, or would move to an older image. Raises it after some moves if somebody else moved a tag meanwhile.
        """
        manifests = {item: self.staged_manifest(item) for item in self._items}
        # All tags are checked before the first one moves: a tag that must not move leaves the registry unchanged.
        for item, tag in self._each_tag():
            self._check_move(item, tag, manifests[item])
        for item, tag in self._each_tag():
            self._move(item, tag, manifests[item])
        for item, tag in self._each_tag():
            present = self._present_manifest(item, tag)
            if present is None or present.digest != manifests[item].digest:
                raise RegistryError(
                    f"{self._registry.reference(item, tag)} has {_digest_or_nothing(present)}, "
                    f"but was moved to {manifests[item].digest}"
                )
        digests = {item.cell: manifests[item].digest for item in self._items}
        self._journal.write(Released(registry=self._registry.name, digests=digests))
        self._remove_run_tags()

    def roll_back(self) -> None:
        """Undo every tag move of the release: set the tag to the digest from before. Record the end in the journal.

        The last moved tag comes first. A tag that did not exist before is removed. Raises `RegistryError`, and leaves
        the remaining tags, if somebody else moved a tag since or a tag cannot be moved back or removed.
        """
        # In reverse order: aliases moved last, so they move back first.
        for moving in reversed(self._journal.find(Moving, registry=self._registry.name)):
            item = next(item for item in self._items if item.cell == moving.cell)
            present = self._present_manifest(item, moving.tag)
            if (present.digest if present else None) == moving.before:
                continue
            if present is None or present.digest != moving.after:
                raise RegistryError(
                    f"{self._registry.reference(item, moving.tag)} has {_digest_or_nothing(present)}, which is not of "
                    "this release: the tag stays"
                )
            self._move_back(item, moving.tag, moving.before)
        self._journal.write(RolledBack(registry=self._registry.name))
        self._remove_run_tags()

    def _record_expected(self, item: ReleaseItem, tag: str) -> None:
        """Record the digest that `tag` has now in the journal, unless the journal has it already."""
        # A resumed release keeps the digests from its start: they are what a rollback goes back to.
        if not self._journal.find(Expected, registry=self._registry.name, cell=item.cell, tag=tag):
            present = self._present_manifest(item, tag)
            digest = present.digest if present else None
            self._journal.write(Expected(registry=self._registry.name, cell=item.cell, tag=tag, digest=digest))

    def _upload_item(self, item: ReleaseItem, source: ImageSource) -> None:
        """Upload the image of `item` from `source`, read its manifest back, and record the upload in the journal.

        Raises `RegistryError` if the registry does not return the manifest that was sent.
        """
        if self._journal.find(Staged, registry=self._registry.name, cell=item.cell):
            return
        repository = self._registry.repository(item)
        self._on_progress(f"{item.cell}: packing")
        content = source.fetch(item, self._connection, lambda blob: not self._client.has_blob(repository, blob.digest))
        manifest = self._present_as(item, content.manifest) or content.manifest
        if manifest is content.manifest:
            mountable = tuple(name for name in self._mountable_from(source) if name != repository)
            self._on_progress(f"{item.cell}: uploading")
            upload_image(content, repository, self._client, stop=self._stop, sources=mountable)
        self._check_stop()
        # A lifecycle policy of ECR may delete an image without a tag. The run tag keeps it until its own tags are set.
        tag_or_digest = run_tag(self._release.name, item.cell) if self._registry.expires_untagged else manifest.digest
        self._client.put_manifest(repository, tag_or_digest, manifest)
        stored = self._client.read_manifest(repository, manifest.digest)
        if stored is None or stored.content != manifest.content:
            raise RegistryError(
                f"{self._registry.host} does not have {repository}@{manifest.digest}, which was just uploaded"
            )
        self._journal.write(
            Staged(registry=self._registry.name, cell=item.cell, repository=repository, digest=manifest.digest)
        )

    def _present_as(self, item: ReleaseItem, manifest: Manifest) -> Manifest | None:
        """Return the manifest that a tag of `item` has now, if it is of the same image as `manifest`; None if none is.

        The two manifests differ if another machine compressed the layers differently. The one in the registry is kept:
        then a tag that must not move has the right image, and nothing is uploaded. Always None for a promotion.
        """
        # A promotion copies byte for byte what was tested and signed: its digest must be the same as in the source.
        for tag in () if self._release.source else item.tags:
            present = self._present_manifest(item, tag)
            if present is not None and present.image == manifest.image:
                return present
        return None

    def _mountable_from(self, source: ImageSource) -> tuple[str, ...]:
        """Return the repositories of this registry that may have layers of this release, also those of `source`."""
        staged = [event.repository for event in self._journal.find(Staged, registry=self._registry.name)]
        return tuple(dict.fromkeys([*staged, *source.mountable_from(self._connection)]))

    def _check_move(self, item: ReleaseItem, tag: str, manifest: Manifest) -> None:
        """Raise `RegistryError` if `tag` must not move to `manifest`. A tag that has `manifest` already passes."""
        present = self._present_manifest(item, tag)
        digest, expected = (present.digest if present else None), self._expected_digest(item, tag)
        name = self._registry.reference(item, tag)
        if digest == manifest.digest:
            return
        if digest != expected:
            raise RegistryError(
                f"{name} had {expected or 'no image'} when this release started and has {digest or 'no image'} now: "
                "somebody else releases too; start a new release"
            )
        if present is None:
            return
        if not self._registry.may_move(tag):
            raise RegistryError(
                f"{name} has another image ({digest}) and must never move; give the new image a new version, or add a "
                "pattern for this tag to `floating` of the target"
            )
        if not self._allow_older:
            require_not_older(self._client, self._registry.repository(item), name, present, manifest)

    def _move(self, item: ReleaseItem, tag: str, manifest: Manifest) -> None:
        """Move `tag` to `manifest`, after recording the move in the journal.

        Raises `RegistryError` if the tag has another digest than from before the release or after the move.
        """
        self._check_stop()
        name = self._registry.name
        before = self._expected_digest(item, tag)
        if before == manifest.digest:
            return
        # Written before the move: a rollback must know of every tag that may have moved, even if the answer was lost.
        if not self._journal.find(Moving, registry=name, cell=item.cell, tag=tag):
            self._journal.write(Moving(registry=name, cell=item.cell, tag=tag, before=before, after=manifest.digest))
        # Looked up again: the checks of all tags came first, so some time has passed.
        present = self._present_manifest(item, tag)
        digest = present.digest if present else None
        if digest not in (before, manifest.digest):
            raise RegistryError(
                f"{self._registry.reference(item, tag)} has {digest or 'no image'} since a moment ago: "
                "somebody else releases too"
            )
        if digest != manifest.digest:
            self._on_progress(f"{item.cell}: {tag}")
            self._client.put_manifest(self._registry.repository(item), tag, manifest)

    def _move_back(self, item: ReleaseItem, tag: str, before: str | None) -> None:
        """Move `tag` to the digest `before`; if that is None, remove the tag.

        Raises `RegistryError` if the manifest does not exist any more, or the tag cannot be removed.
        """
        repository, name = self._registry.repository(item), self._registry.reference(item, tag)
        if before is not None:
            manifest = self._client.read_manifest(repository, before)
            if manifest is None:
                raise RegistryError(f"{name}: its image from before, {before}, is not in the registry any more")
            self._client.put_manifest(repository, tag, manifest)
        elif not self._connection.remove_tag(repository, tag):
            raise RegistryError(f"{name} did not exist before, and can't be removed; remove it by hand")

    def _remove_run_tags(self) -> None:
        """Remove the run tags (temporary tags). A failure is only recorded, because the release itself is complete."""
        for item in self._items if self._registry.expires_untagged else ():
            tag = run_tag(self._release.name, item.cell)
            try:
                self._connection.remove_tag(self._registry.repository(item), tag)
            except FactoryError as error:
                self._journal.write(
                    RunTagLeft(registry=self._registry.name, cell=item.cell, tag=tag, reason=str(error))
                )

    def _expected_digest(self, item: ReleaseItem, tag: str) -> str | None:
        """Return the digest that `tag` had when the release started; None if the tag did not exist.

        Raises `RegistryError` if the journal does not have it.
        """
        expected = self._journal.find(Expected, registry=self._registry.name, cell=item.cell, tag=tag)
        if not expected:
            name = self._registry.reference(item, tag)
            raise RegistryError(f"{name}: the journal does not have its digest from before; start a new release")
        return expected[0].digest

    def _present_manifest(self, item: ReleaseItem, tag: str) -> Manifest | None:
        """Return the manifest that `tag` of `item` has in the registry now; None if the tag does not exist."""
        return self._client.read_manifest(self._registry.repository(item), tag)

    def _each_tag(self) -> Iterator[tuple[ReleaseItem, str]]:
        """Yield each item with each of its tags: first the own tags of all images, then all aliases.

        People and running jobs follow aliases, so these move when every image has its own tag. Raises `Interrupted`
        before a tag if `stop` is set.
        """
        own = [(item, item.tags[0]) for item in self._items]
        aliases = [(item, tag) for item in self._items for tag in item.tags[1:]]
        for pair in own + aliases:
            self._check_stop()
            yield pair

    def _check_stop(self) -> None:
        """Raise `Interrupted` if `stop` is set."""
        if self._stop.is_set():
            raise Interrupted("interrupted")


def require_not_older(
    client: RegistryClient, repository: str, name: str, present: Manifest, replacement: Manifest
) -> None:
    """Raise `RegistryError` if the image `replacement` is older than the image `present`, as `image_age` orders them.

    Both configurations are read from `repository`; an index, which has none, is not compared. `name` is the tag in the
    message (`host/repository:tag`).
    """
    if present.config is None or replacement.config is None:
        return
    new, old = (
        parse_config(client.read_blob(repository, image), f"{name} ({image})")
        for image in (replacement.image, present.image)
    )
    if image_age(old) > image_age(new):
        raise RegistryError(
            f"{name} has {_describe_age(old)}, this release has {_describe_age(new)}: "
            "tags never move backwards, unless you give --allow-older"
        )


def image_age(config: ImageConfig) -> tuple[Version, str]:
    """Return the toolkit's version and the creation date of an image, which order two images of one tag by age.

    The version comes first, because an old version that is rebuilt today has the later date. A missing or invalid
    version counts as 0.
    """
    try:
        version = Version(config.labels.get(VERSION_LABEL, ""))
    except InvalidVersion:
        version = Version("0")
    return version, config.created


def _describe_age(config: ImageConfig) -> str:
    """Return version and creation date of an image as text for people."""
    return f"version {config.labels.get(VERSION_LABEL, '?')} of {config.created or 'unknown age'}"


def _digest_or_nothing(manifest: Manifest | None) -> str:
    """Return the digest of `manifest`, or `no image` for None."""
    return manifest.digest if manifest else "no image"
