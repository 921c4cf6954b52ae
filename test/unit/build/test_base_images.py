from pathlib import Path

import pytest

from rlimages.build.base_images import Mirror, import_argv, mmdebstrap_argv, parse_mirror, release_epoch, slim_suite
from rlimages.errors import ToolError

LISTING = """\
bookworm http://mirror.example/debian/
bookworm-updates http://mirror.example/debian/
bookworm-security http://mirror.example/debian-security/
"""
MIRROR = Mirror(archive="http://mirror.example/debian", security="http://mirror.example/debian-security")


@pytest.mark.parametrize(
    ("reference", "suite"),
    [
        ("debian:bookworm-slim", "bookworm"),
        ("debian:bullseye-slim", "bullseye"),
        ("debian:bookworm", None),
        ("debian:12-slim", None),
        ("ubuntu:jammy-slim", None),
        ("registry.example/debian:bookworm-slim", None),
        ("debian:bookworm-slim@sha256:0", None),
    ],
)
def test_only_debian_slim_references_name_a_suite(reference: str, suite: str | None) -> None:
    assert slim_suite(reference) == suite


def test_the_mirror_is_the_one_apt_uses() -> None:
    assert parse_mirror(LISTING) == MIRROR


def test_a_machine_may_have_no_security_archive() -> None:
    mirror = parse_mirror("bookworm http://mirror.example/debian/\n")
    assert mirror == Mirror(archive="http://mirror.example/debian", security=None)
    assert mirror.pockets("bullseye") == (
        ("http://mirror.example/debian", "bullseye"),
        ("http://mirror.example/debian", "bullseye-updates"),
    )


def test_a_machine_without_debian_archives_has_no_mirror() -> None:
    assert parse_mirror("") is None


def test_a_bootstrapped_image_has_the_updates_and_security_archives() -> None:
    assert mmdebstrap_argv("bullseye", MIRROR.pockets("bullseye"), 1, Path("rootfs.tar"))[-5:] == [
        "bullseye",
        "rootfs.tar",
        "deb http://mirror.example/debian bullseye main",
        "deb http://mirror.example/debian bullseye-updates main",
        "deb http://mirror.example/debian-security bullseye-security main",
    ]


def test_the_date_of_the_release_is_the_date_of_the_files() -> None:
    argv = mmdebstrap_argv("bookworm", MIRROR.pockets("bookworm"), 1783764997, Path("rootfs.tar"))
    assert argv[:3] == ["env", "SOURCE_DATE_EPOCH=1783764997", "mmdebstrap"]


def test_warnings_of_apt_are_ignored() -> None:
    assert parse_mirror("W: Target Packages (main) is configured multiple times in x:1\n" + LISTING) == MIRROR


def test_documentation_is_left_out_but_copyright_files_stay() -> None:
    options = mmdebstrap_argv("bookworm", MIRROR.pockets("bookworm"), 1, Path("rootfs.tar"))
    assert "--dpkgopt=path-exclude=/usr/share/man/*" in options
    assert options.index("--dpkgopt=path-include=/usr/share/doc/*/copyright") > options.index(
        "--dpkgopt=path-exclude=/usr/share/doc/*"
    )


def test_an_image_is_imported_under_the_reference_that_dockerfiles_name() -> None:
    assert import_argv("debian:bookworm-slim", Path("rootfs.tar"), ("docker", "--context", "here")) == [
        "docker",
        "--context",
        "here",
        "import",
        "--change",
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "--change",
        'CMD ["bash"]',
        "--message",
        "bootstrapped with mmdebstrap",
        "rootfs.tar",
        "debian:bookworm-slim",
    ]


def test_the_date_of_a_release_is_read_from_its_text() -> None:
    assert release_epoch("Origin: Debian\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n") == 1783764997


def test_a_release_without_a_date_is_an_error() -> None:
    with pytest.raises(ToolError, match="no Date"):
        release_epoch("<html>welcome</html>")
