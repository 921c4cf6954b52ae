import hashlib
from pathlib import Path

import pytest

from rlimages.build.host_context import parse_pins, pip_conf, prepare_contexts, without_credentials
from rlimages.project.pip_config import PipSettings

NUMPY = "numpy-1.24.3-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
TORCH = "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def wheels(tmp_path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in (NUMPY, TORCH, "numpy-1.26.4-cp311-cp311-manylinux2014_x86_64.whl", "uv-0.9.1-py3-none-any.whl"):
        (folder / name).write_text(name)
    (folder / "notes.txt").write_text("")
    (folder / "not a wheel.whl").write_text("")
    return folder


@pytest.fixture
def prepare(tmp_path):
    """Prepare the folders of some cells from the wheels and settings of a machine."""

    def prepare(locks, wheels=(), environ=None, config=""):
        (tmp_path / "pip.conf").write_text(config)
        return prepare_contexts(
            tmp_path / "out", locks, environ=environ or {}, home=tmp_path, wheels=wheels,
            config_files=(tmp_path / "pip.conf",),
        )  # fmt: skip

    return prepare


def passed_files(host, cell: str) -> set[str]:
    return {path.name for path in (host.folders[cell] / "wheels").iterdir()}


def test_only_wheels_that_the_lock_names_are_passed(prepare, wheels) -> None:
    host = prepare({"a": "numpy==1.24.3\n", "b": "torch==2.13.0+cpu\n"}, [wheels])
    assert passed_files(host, "a") == {NUMPY, "uv-0.9.1-py3-none-any.whl"}
    assert passed_files(host, "b") == {TORCH, "uv-0.9.1-py3-none-any.whl"}


def test_a_wheel_with_another_hash_is_not_passed(prepare, wheels) -> None:
    right = f"numpy==1.24.3 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{digest(NUMPY)}\n"
    assert NUMPY in passed_files(prepare({"a": right}, [wheels]), "a")
    assert not prepare({"a": f"numpy==1.24.3 --hash=sha256:{'0' * 64}\n"}, [wheels]).folders


def test_wheels_come_from_the_find_links_of_the_machine_too(prepare, wheels) -> None:
    host = prepare({"a": "numpy==1.24.3\n"}, config=f"[global]\nfind-links = {wheels}\n")
    assert NUMPY in passed_files(host, "a")
    assert str(wheels) in host.notes[0]


def test_files_of_a_local_index_are_passed_as_wheels(prepare, wheels, tmp_path) -> None:
    page = tmp_path / "simple/numpy/index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../wheels/{NUMPY}#sha256={digest(NUMPY)}">x</a><a href="../../wheels/gone.whl">x</a>')
    host = prepare(
        {"a": f"numpy==1.24.3 --hash=sha256:{digest(NUMPY)}\n"}, environ={"PIP_INDEX_URL": f"file://{tmp_path}/simple"}
    )
    assert passed_files(host, "a") == {NUMPY}
    assert not (host.folders["a"] / "pip.conf").exists()


def test_a_wheel_that_the_lock_names_no_more_is_removed(prepare, wheels) -> None:
    prepare({"a": "numpy==1.24.3\n"}, [wheels])
    host = prepare({"a": "numpy==1.26.4\n"}, [wheels])
    assert NUMPY not in passed_files(host, "a")


def test_preparing_twice_changes_nothing(prepare, wheels) -> None:
    host = prepare({"a": "numpy==1.24.3\n"}, [wheels])
    before = {path: path.stat().st_ino for path in host.folders["a"].rglob("*")}
    prepare({"a": "numpy==1.24.3\n"}, [wheels])
    assert {path: path.stat().st_ino for path in host.folders["a"].rglob("*")} == before


def test_certificates_are_passed_if_the_machine_names_some(prepare, tmp_path) -> None:
    (tmp_path / "ca.pem").write_text("one")
    host = prepare({"a": ""}, environ={"SSL_CERT_FILE": str(tmp_path / "ca.pem")})
    assert (host.folders["a"] / "ca-certificates.crt").read_text() == "one"
    assert prepare({"a": ""}).folders == {}
    assert not (tmp_path / "out/a/ca-certificates.crt").exists()


def test_pip_conf_has_the_addresses_of_indexes_and_no_local_folders() -> None:
    settings = PipSettings(
        index_url="https://one.example.org/simple",
        extra_index_urls=("file:///local", "http://two.example.org"),
        find_links=("/wheels", "https://three.example.org/links"),
    )
    assert pip_conf(settings) == (
        "[global]\n"
        "index-url =\n    https://one.example.org/simple\n"
        "extra-index-url =\n    http://two.example.org\n"
        "find-links =\n    https://three.example.org/links\n"
    )


def test_a_machine_without_settings_passes_nothing(prepare) -> None:
    host = prepare({"a": "numpy==1.24.3\n"})
    assert (host.folders, host.notes) == ({}, ())


def test_the_password_of_an_index_is_never_printed_and_only_the_owner_can_read_it(prepare) -> None:
    host = prepare(
        {"a": ""}, environ={"PIP_EXTRA_INDEX_URL": "https://me:hunter2@one.example.org/simple?token=hunter2"}
    )
    assert "hunter2" not in " ".join(host.notes)
    assert "https://***@one.example.org/simple" in host.notes[0]
    conf = host.folders["a"] / "pip.conf"
    assert "hunter2" in conf.read_text()
    assert conf.stat().st_mode & 0o077 == 0


def test_an_address_without_a_password_stays_as_it_is() -> None:
    assert without_credentials("https://one.example.org:8443/simple") == "https://one.example.org:8443/simple"


def test_pins_are_read_with_extras_markers_and_hashes() -> None:
    found = parse_pins(
        "# a comment\n"
        "Ray[rllib,tune]==2.9.3 ; python_version < '4' \\\n"
        f"    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n"
        "    # via x\n"
        "git+https://x.example.org/y.git\n"
        "numpy>=1.0\n"
    )
    assert [(pin.name, str(pin.version), len(pin.hashes)) for pin in found] == [("ray", "2.9.3", 2)]
