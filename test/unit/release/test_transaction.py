"""A release in one registry: the order of its steps, its rules for tags, and its rollback."""

import pytest

from rlimages.errors import Interrupted, RegistryError
from rlimages.release.model import ReleaseState
from rlimages.system.process import Stop


def test_every_digest_is_recorded_before_the_first_upload_and_every_upload_is_complete_before_a_tag_moves(
    scene,
) -> None:
    made = scene()
    made.run()
    assert made.log == [
        "Expected a 2.0",
        "Expected b 2.0",
        "Expected a latest",
        "Expected b latest",
        "upload to team/a",
        "upload to team/a",
        f"put team/a:{made.new['a']}",
        "Staged a",
        "upload to team/b, mountable from ('team/a',)",
        "upload to team/b, mountable from ('team/a',)",
        f"put team/b:{made.new['b']}",
        "Staged b",
        "Moving a 2.0",
        "put team/a:2.0",
        "Moving b 2.0",
        "put team/b:2.0",
        "Moving a latest",
        "put team/a:latest",
        "Moving b latest",
        "put team/b:latest",
        "Released",
    ]
    assert made.digests("2.0") == made.digests("latest") == made.new


def test_where_untagged_images_expire_a_temporary_tag_keeps_each_image_until_the_end(scene) -> None:
    made = scene(expires_untagged=True)
    transaction = made.transaction()
    transaction.upload(made)
    assert made.client.tag_digest("team/a", "rlimages-run-r1-a") == made.new["a"]
    transaction.move_tags()
    assert made.log[-3:] == ["Released", "delete team/a:rlimages-run-r1-a", "delete team/b:rlimages-run-r1-b"]


def test_a_resumed_release_repeats_nothing_that_the_journal_has(scene) -> None:
    made = scene()
    made.transaction().upload(made)
    done = len(made.log)
    made.run()
    assert {line.partition(" ")[0] for line in made.log[done:]} == {"Moving", "put", "Released"}


def test_the_same_image_packed_by_another_machine_is_kept_and_nothing_is_uploaded(scene, image) -> None:
    made = scene()
    present = image("a", "2.0", packing="of another machine")
    made.client.put("team/a", "2.0", present)
    made.run()
    assert made.digests("latest")["a"] == present.manifest.digest
    assert "upload to team/a" not in made.log


def test_a_promotion_uploads_the_tested_bytes_even_if_the_same_image_is_there_in_another_packing(scene, image) -> None:
    made = scene(source="pre-production")
    made.client.put("team/a", "latest", image("a", "2.0", packing="of another machine"))
    made.run()
    assert made.digests("latest") == made.new


def test_layers_are_mounted_from_the_repositories_of_the_source(scene) -> None:
    made = scene(source="pre-production", mountable=("test/a", "test/b"))
    made.run()
    assert "upload to team/a, mountable from ('test/a', 'test/b')" in made.log
    assert "upload to team/b, mountable from ('team/a', 'test/a', 'test/b')" in made.log


def test_a_tag_that_somebody_else_moved_since_the_start_is_not_overwritten(scene, image) -> None:
    made = scene()
    transaction = made.transaction()
    transaction.upload(made)
    other = image("b", "9.0")
    made.client.put("team/b", "latest", other)
    with pytest.raises(RegistryError) as raised:
        transaction.move_tags()
    assert str(raised.value) == (
        f"registry/team/b:latest had no image when this release started and has {other.manifest.digest} now: "
        "somebody else releases too; start a new release"
    )
    assert transaction.state is ReleaseState.UNTOUCHED
    assert made.digests("2.0") == {"a": None, "b": None}


def test_a_tag_that_is_not_floating_never_moves_to_another_image(scene, image) -> None:
    made = scene()
    old = image("b", "1.0")
    made.client.put("team/b", "2.0", old)
    with pytest.raises(RegistryError) as raised:
        made.run()
    assert str(raised.value) == (
        f"registry/team/b:2.0 has another image ({old.manifest.digest}) and must never move; give the new image a new "
        "version, or add a pattern for this tag to `floating` of the target"
    )
    assert made.transaction().state is ReleaseState.UNTOUCHED


def test_a_tag_moves_to_an_older_image_only_if_that_is_allowed(scene, image) -> None:
    made = scene()
    made.client.put("team/b", "latest", image("b", "10.0"))
    with pytest.raises(RegistryError) as raised:
        made.run()
    assert str(raised.value) == (
        "registry/team/b:latest has version 10.0 of unknown age, this release has version 2.0 of unknown age: "
        "tags never move backwards, unless you give --allow-older"
    )
    assert made.run(allow_older=True).state is ReleaseState.RELEASED
    assert made.digests("latest") == made.new


def test_a_stopped_release_is_between_and_is_finished_later(scene) -> None:
    made, stop = scene(), Stop()
    transaction = made.transaction(stop=stop)
    transaction.upload(made)
    put = made.client.put_manifest

    def stop_after_the_first_move(repository, tag_or_digest, manifest) -> None:
        put(repository, tag_or_digest, manifest)
        stop.set()

    made.client.put_manifest = stop_after_the_first_move
    with pytest.raises(Interrupted):
        transaction.move_tags()
    assert transaction.state is ReleaseState.BETWEEN
    made.client.put_manifest = put
    assert made.run().state is ReleaseState.RELEASED


def test_a_rollback_moves_tags_back_in_reverse_order_and_removes_new_ones(scene, image) -> None:
    made = scene()
    old = image("b", "1.0")
    made.client.put("team/b", "latest", old)
    transaction = made.run()
    done = len(made.log)
    transaction.roll_back()
    assert made.log[done:] == [
        "put team/b:latest", "delete team/a:latest", "delete team/b:2.0", "delete team/a:2.0", "RolledBack",
    ]  # fmt: skip
    assert transaction.state is ReleaseState.ROLLED_BACK
    assert made.digests("latest") == {"a": None, "b": old.manifest.digest}


def test_a_rollback_keeps_a_tag_that_somebody_else_moved(scene, image) -> None:
    made = scene()
    transaction = made.run()
    other = image("b", "3.0")
    made.client.put("team/b", "latest", other)
    with pytest.raises(RegistryError) as raised:
        transaction.roll_back()
    assert str(raised.value) == (
        f"registry/team/b:latest has {other.manifest.digest}, which is not of this release: the tag stays"
    )
    assert made.digests("latest")["b"] == other.manifest.digest


def test_a_tag_that_the_registry_cannot_remove_is_an_error(scene) -> None:
    made = scene()
    transaction = made.run()
    made.client.can_delete = False
    with pytest.raises(RegistryError) as raised:
        transaction.roll_back()
    assert str(raised.value) == "registry/team/b:latest did not exist before, and can't be removed; remove it by hand"
