"""Release images to one registry as a transaction: upload all, verify all, then move the tags."""

from collections.abc import Callable, Collection, Iterator, Sequence

from packaging.version import InvalidVersion, Version

from rlimages.errors import FactoryError, Interrupted, RegistryError
from rlimages.oci.labels import VERSION_LABEL
from rlimages.oci.manifest import ImageConfig, Manifest, parse_config
from rlimages.registry.client import RegistryClient, upload_image
from rlimages.release.journal import Journal
from rlimages.release.model import Fetch, ReleaseItem, ReleaseState, TargetRegistry, Untag
from rlimages.system.process import Stop


def require_not_older(
    registry: RegistryClient, repository: str, name: str, present: Manifest, wanted: Manifest
) -> None:
    """Raise `RegistryError` where a tag, `name`, would go from `present` back to an older image; both are there."""
    if present.config is None or wanted.config is None:
        return
    now, then = (
        parse_config(registry.blob(repository, image), f"{name} ({image})") for image in (wanted.image, present.image)
    )
    if image_age(then) > image_age(now):
        told = [
            f"version {facts.labels.get(VERSION_LABEL, '?')} of {facts.created or 'unknown age'}"
            for facts in (then, now)
        ]
        raise RegistryError(
            f"{name} holds {told[0]}, this release has {told[1]}: tags never move backwards, but with --allow-older"
        )


def image_age(facts: ImageConfig) -> tuple[Version, str]:
    """What orders two images of one tag: the toolkit's version, then when they were built."""
    try:
        version = Version(facts.labels.get(VERSION_LABEL, ""))
    except InvalidVersion:
        version = Version("0")
    return version, facts.created


RUN_TAG = "rlimages-run-"
"""How the tags begin that hold an image while a release goes on."""


class ReleaseTransaction:
    """A release's work in one place. Every method may be called again after it broke, also by another process."""

    def __init__(
        self,
        place: TargetRegistry,
        items: Sequence[ReleaseItem],
        registry: RegistryClient,
        journal: Journal,
        *,
        stop: Stop,
        untag: Untag | None = None,
        shared: Collection[str] = (),
        may_go_back: bool = False,
        exact: bool = False,
        on_progress: Callable[[str], None] = lambda _what: None,
    ) -> None:
        """`untag` is the distribution protocol's own way where it is not given.

        `shared`: other repositories of this registry that may have the same layers. `exact`: byte for byte what was
        fetched, also where the same image is here already, packed in another way.
        """
        self.place = place
        self._items = tuple(items)
        self._registry = registry
        self._journal = journal
        self._stop = stop
        self._untag = untag or registry.delete_manifest
        self._shared = tuple(shared)
        self._may_go_back = may_go_back
        self._exact = exact
        self._tell = on_progress

    @property
    def state(self) -> ReleaseState:
        """How the journal says that it stands."""
        if self._told("rolled back"):
            return ReleaseState.ROLLED_BACK
        if self._told("released"):
            return ReleaseState.RELEASED
        return ReleaseState.BETWEEN if self._told("moving") else ReleaseState.UNTOUCHED

    def bring(self, fetch: Fetch) -> None:
        """Note where all tags are, and bring all images. Raises `FactoryError`, and nobody has seen anything."""
        for item, tag in self._each_tag():
            self._note_present(item, tag)
        for item in self._items:
            self._bring(item, fetch)

    def move(self) -> None:
        """Move all tags. Raises `RegistryError` before the first move where any of them would be wrong.

        Wrong is: off an image that this release did not see there, off one that must stay, or back to an older one.
        """
        manifests = {item: self.staged(item) for item in self._items}
        for item, tag in self._each_tag():
            self._check(item, tag, manifests[item])
        for item, tag in self._each_tag():
            self._move(item, tag, manifests[item])
        for item, tag in self._each_tag():
            present = self._present(item, tag)
            if present is None or present.digest != manifests[item].digest:
                raise RegistryError(
                    f"{self._name(item, tag)} holds {_digest_or_nothing(present)}, moved there was {manifests[item].digest}"
                )
        self._write("released", digests={item.cell: manifests[item].digest for item in self._items})
        self._clean_up()

    def roll_back(self) -> None:
        """Give every moved tag what it held before. Raises `RegistryError` where somebody else moved it since."""
        for entry in reversed(self._told("moving")):
            item = next(item for item in self._items if item.cell == entry["cell"])
            present = self._present(item, entry["tag"])
            before, after = entry["before"], entry["after"]
            if (present.digest if present else None) == before:
                continue
            if present is None or present.digest != after:
                raise RegistryError(
                    f"{self._name(item, entry['tag'])} holds {_digest_or_nothing(present)}, which is not of this release: "
                    "it stays as it is"
                )
            self._return(item, entry["tag"], before)
        self._write("rolled back")
        self._clean_up()

    def _bring(self, item: ReleaseItem, fetch: Fetch) -> None:
        if self._told("staged", cell=item.cell):
            return
        repository = self.place.repository(item)
        self._tell(f"{item.cell}: packing")
        content = fetch(item, lambda blob: not self._registry.has_blob(repository, blob.digest))
        manifest = self._already(item, content.manifest) or content.manifest
        if manifest is content.manifest:
            sources = tuple(name for name in self._known_repositories() if name != repository)

            self._tell(f"{item.cell}: uploading")
            upload_image(content, repository, self._registry, stop=self._stop, sources=sources)
        self._go_on()
        self._registry.put_manifest(
            repository, self._run_tag(item) if self.place.held_by_tag else manifest.digest, manifest
        )
        held = self._registry.manifest(repository, manifest.digest)
        if held is None or held.content != manifest.content:
            raise RegistryError(f"{self.place.host} does not have {repository}@{manifest.digest}, which was just sent")
        self._write("staged", cell=item.cell, repository=repository, digest=manifest.digest)

    def _already(self, item: ReleaseItem, manifest: Manifest) -> Manifest | None:
        """The same image as it is here under one of its tags, where it was packed elsewhere in another way."""
        for tag in () if self._exact else item.tags:
            present = self._present(item, tag)
            if present is not None and present.image == manifest.image:
                return present
        return None

    def _known_repositories(self) -> tuple[str, ...]:
        staged = [entry["repository"] for entry in self._told("staged")]
        return tuple(dict.fromkeys([*staged, *self._shared]))

    def staged(self, item: ReleaseItem) -> Manifest:
        """What was brought for an item. Raises `RegistryError` where nothing was, or it is gone."""
        told = self._told("staged", cell=item.cell)
        manifest = self._registry.manifest(told[-1]["repository"], told[-1]["digest"]) if told else None
        if manifest is None:
            raise RegistryError(f"{self.place.name}: {item.cell} was not brought, or is gone again; release it anew")
        return manifest

    def _check(self, item: ReleaseItem, tag: str, manifest: Manifest) -> None:
        present = self._present(item, tag)
        now, before = (present.digest if present else None), self._before(item, tag)
        name = self._name(item, tag)
        if now == manifest.digest:
            return
        if now != before:
            raise RegistryError(
                f"{name} was {before or 'not there'} when this release began and is {now or 'gone'} now: somebody else "
                "releases too; begin a new release"
            )
        if present is None:
            return
        if not self.place.may_move(tag):
            raise RegistryError(
                f"{name} holds another image ({now}) and must never move; give the new one a new version, or let the "
                "target's `floating` match the tag"
            )
        if not self._may_go_back:
            require_not_older(self._registry, self.place.repository(item), name, present, manifest)

    def _move(self, item: ReleaseItem, tag: str, manifest: Manifest) -> None:
        self._go_on()
        before = self._before(item, tag)
        if before == manifest.digest:
            return
        if not self._told("moving", cell=item.cell, tag=tag):
            self._write("moving", cell=item.cell, tag=tag, before=before, after=manifest.digest)
        present = self._present(item, tag)
        now = present.digest if present else None
        if now not in (before, manifest.digest):
            raise RegistryError(
                f"{self._name(item, tag)} became {now or 'nothing'} just now: somebody else releases too"
            )
        if now != manifest.digest:
            self._tell(f"{item.cell}: {tag}")
            self._registry.put_manifest(self.place.repository(item), tag, manifest)

    def _return(self, item: ReleaseItem, tag: str, before: str | None) -> None:
        repository = self.place.repository(item)
        if before is not None:
            manifest = self._registry.manifest(repository, before)
            if manifest is None:
                raise RegistryError(
                    f"{self._name(item, tag)}: what it held before, {before}, is gone from the registry"
                )
            self._registry.put_manifest(repository, tag, manifest)
        elif not self._untag(repository, tag):
            raise RegistryError(f"{self._name(item, tag)} was not there before, and can't be removed; do it by hand")

    def _clean_up(self) -> None:
        """Remove this run's own tags. What fails here is only untidy: `gc` finds it."""
        for item in self._items if self.place.held_by_tag else ():
            try:
                self._untag(self.place.repository(item), self._run_tag(item))
            except FactoryError as error:
                self._write("left", cell=item.cell, tag=self._run_tag(item), reason=str(error))

    def _note_present(self, item: ReleaseItem, tag: str) -> None:
        if not self._told("expected", cell=item.cell, tag=tag):
            present = self._present(item, tag)
            self._write("expected", cell=item.cell, tag=tag, digest=present.digest if present else None)

    def _before(self, item: ReleaseItem, tag: str) -> str | None:
        found = self._told("expected", cell=item.cell, tag=tag)
        if not found:
            raise RegistryError(f"{self._name(item, tag)}: the journal does not say what was there; release it anew")
        digest: str | None = found[0]["digest"]
        return digest

    def _present(self, item: ReleaseItem, tag: str) -> Manifest | None:
        return self._registry.manifest(self.place.repository(item), tag)

    def _each_tag(self) -> Iterator[tuple[ReleaseItem, str]]:
        """First what each image is called itself, then the aliases, which people follow without looking."""
        own = [(item, item.tags[0]) for item in self._items]
        aliases = [(item, tag) for item in self._items for tag in item.tags[1:]]
        for pair in own + aliases:
            self._go_on()
            yield pair

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Interrupted("interrupted")

    def _run_tag(self, item: ReleaseItem) -> str:
        return f"{RUN_TAG}{self._journal.path.parent.name}-{item.cell}"

    def _name(self, item: ReleaseItem, tag: str) -> str:
        return f"{self.place.host}/{self.place.repository(item)}:{tag}"

    def _told(self, event: str, **words: object) -> list[dict[str, str]]:
        return [dict(entry) for entry in self._journal.told(event, place=self.place.name, **words)]

    def _write(self, event: str, **words: object) -> None:
        self._journal.write(event, place=self.place.name, **words)


def _digest_or_nothing(manifest: Manifest | None) -> str:
    return manifest.digest if manifest else "nothing"
