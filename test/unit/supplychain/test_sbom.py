import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlimages.engine.container import ContainerRun
from rlimages.engine.protocol import BuiltImage, InspectedImage
from rlimages.errors import ToolError
from rlimages.supplychain.sbom import (
    INVENTORY_PROGRAM,
    PREFIX,
    Inventory,
    Package,
    SbomSubject,
    compose_sbom,
    image_sbom,
    parse_inventory,
    sbom_image,
)
from rlimages.system.process import ProgramResult

ROOT = Path(__file__).resolve().parents[3]
IMAGE = SbomSubject(id="sha256:" + "ab" * 32, name="vw", version="9.11.9", created="2026-11-21T13:15:08.991930216Z")
RECORDS = [
    {"kind": "os", "id": "debian", "version": "12"},
    {"kind": "deb", "name": "libc6", "version": "2.36-9", "arch": "amd64", "source": "glibc", "source_version": "2.36-9", "licenses": []},
    {"kind": "pypi", "name": "six", "version": "1.17", "expression": "", "licenses": ["MIT"], "classifiers": ["MIT License"], "folder": "/b"},
    {"kind": "pypi", "name": "Six", "version": "1.17", "expression": "", "licenses": ["MIT"], "classifiers": [], "folder": "/a"},
    {"kind": "unreadable", "path": "/root"},
]  # fmt: skip


def say(records: list[dict[str, object]]) -> list[str]:
    end = {"kind": "end", "records": len(records)}
    return ["a word of the entrypoint", *(PREFIX + json.dumps(record) for record in [*records, end])]


def package(**words: object) -> Package:
    return Package(**{"kind": "pypi", "name": "six", "version": "1.17", **words})  # type: ignore[arg-type]


def bom(*packages: Package, os: str = "debian", os_version: str = "12") -> dict[str, object]:
    return json.loads(compose_sbom(Inventory(os=os, os_version=os_version, packages=packages), IMAGE))


def test_what_a_program_says_inside_is_understood() -> None:
    found = parse_inventory(say(RECORDS), "x")
    assert (found.os, found.os_version, found.unreadable) == ("debian", "12", ("/root",))
    libc, six = found.packages
    assert (libc.name, libc.source) == ("libc6", "glibc")
    assert six.folders == ("/a", "/b")


def test_half_of_an_answer_is_none() -> None:
    lines = say(RECORDS)
    for part in (lines[:-1], lines[:2] + lines[3:], []):
        with pytest.raises(ToolError, match="not complete"):
            parse_inventory(part, "x")


@pytest.mark.parametrize(
    ("told", "licenses"),
    [
        ({"expression": "MIT OR X", "licenses": ["a"], "classifiers": ["b"]}, ("MIT OR X",)),
        ({"expression": "", "licenses": ["a"], "classifiers": ["b"]}, ("a",)),
        ({"expression": "", "licenses": [], "classifiers": ["b", "c"]}, ("b", "c")),
    ],
)
def test_the_newest_licence_field_counts(told, licenses) -> None:
    (found,) = parse_inventory(
        say([{"kind": "pypi", "name": "six", "version": "1", "folder": "/a", **told}]), "x"
    ).packages
    assert found.licenses == licenses


@pytest.mark.parametrize(
    ("words", "purl"),
    [
        ({}, "pkg:pypi/six@1.17"),
        (
            {"kind": "deb", "name": "libc6", "version": "2.36-9", "arch": "amd64", "source": "glibc"},
            "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12&upstream=glibc",
        ),
        (
            {"kind": "rpm", "name": "bash", "version": "5-1", "arch": "x86_64", "epoch": "2"},
            "pkg:rpm/debian/bash@5-1?arch=x86_64&distro=debian-12&epoch=2",
        ),
    ],
)
def test_packages_have_the_names_that_vulnerability_databases_know(words, purl) -> None:
    told = bom(package(**words))["components"]
    assert [entry["purl"] for entry in told if entry["type"] == "library"] == [purl]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("MIT",), [{"license": {"id": "MIT"}}]),
        (("Apache-2.0 OR BSD-3-Clause",), [{"expression": "Apache-2.0 OR BSD-3-Clause"}]),
        (("Dual License",), [{"license": {"name": "Dual License"}}]),
        (("MIT", "OSI Approved", "GPL-2+"), [{"license": {"id": "MIT"}}, {"license": {"name": "GPL-2+"}}]),
    ],
)
def test_licences_are_ids_expressions_or_names(names, told) -> None:
    (entry,) = (entry for entry in bom(package(licenses=names))["components"] if entry["type"] == "library")
    assert sorted(entry["licenses"], key=str) == sorted(told, key=str)


def test_the_same_image_gives_the_same_text() -> None:
    packages = (package(), package(name="a"), package(name="b", folders=("/y", "/x")))
    texts = {
        compose_sbom(Inventory(os="debian", os_version="12", packages=order), IMAGE)
        for order in (packages, packages[::-1])
    }
    assert len(texts) == 1


def test_serial_number_and_time_are_the_images_own() -> None:
    told = bom()
    assert told["metadata"]["timestamp"] == "2026-11-21T13:15:08.991930+00:00"
    assert told["serialNumber"] == bom()["serialNumber"]
    assert sbom_image(told) == IMAGE.id
    assert sbom_image({}) == ""


PYTHON = ".".join(map(str, sys.version_info[:3]))
COPYRIGHT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nLicense: GPL-2+\n"


@pytest.fixture
def system(tmp_path) -> Path:
    """The files of a small image."""
    files = {
        "usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\n',
        "var/lib/dpkg/status": "Package: adduser\nStatus: install ok installed\nVersion: 3.134\nArchitecture: all\n\n"
        "Package: libc6\nStatus: install ok installed\nSource: glibc (2.36-9)\nVersion: 2.36-9+b1\nArchitecture: amd64\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
        "usr/share/doc/adduser/copyright": COPYRIGHT,
        "opt/venv/lib/python3.11/site-packages/numpy-2.4.6.dist-info/METADATA": "Name: numpy\nVersion: 2.4.6\n"
        "License-Expression: BSD-3-Clause\nClassifier: License :: OSI Approved\n\nName: not-this\n",
        "usr/lib/python3/dist-packages/old.egg-info": "Name: old\nVersion: 1\nLicense: UNKNOWN\n"
        "Classifier: License :: OSI Approved :: MIT License\n",
        "proc/lost.egg-info": "Name: lost\nVersion: 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_program_lists_what_dpkg_and_python_say_about_themselves(system) -> None:
    said = subprocess.run(
        [sys.executable, ROOT / INVENTORY_PROGRAM, system], capture_output=True, text=True, check=True
    ).stdout
    found = parse_inventory(said.splitlines(), "x")
    assert (found.os, found.os_version) == ("debian", "12")
    assert found.packages == (
        Package(kind="deb", name="adduser", version="3.134", arch="all", licenses=("GPL-2+",)),
        Package(kind="deb", name="libc6", version="2.36-9+b1", arch="amd64", source="glibc@2.36-9"),
        Package(
            kind="generic", name="python", version=PYTHON, folders=(os.path.dirname(os.path.realpath(sys.executable)),)
        ),
        Package(
            kind="pypi",
            name="numpy",
            version="2.4.6",
            licenses=("BSD-3-Clause",),
            folders=("/opt/venv/lib/python3.11/site-packages",),
        ),
        Package(
            kind="pypi", name="old", version="1", licenses=("MIT License",), folders=("/usr/lib/python3/dist-packages",)
        ),
    )


def test_the_program_asks_rpm_where_there_is_one(system) -> None:
    folder = system / "bin"
    folder.mkdir()
    lines = [
        "gpg-pubkey\t0\t1-1\t(none)\tpubkey\t(none)",
        "bash\t2\t5.2-1.amzn2023\tx86_64\tGPL-3.0-or-later\tbash-5.2.src.rpm",
    ]
    (folder / "rpm").write_text("#!/bin/sh\n" + "\n".join(f"printf '%s\\n' '{line}'" for line in lines))
    (folder / "rpm").chmod(0o755)
    argv, environ = (
        [sys.executable, ROOT / INVENTORY_PROGRAM, system],
        {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=environ).stdout
    (found,) = (package for package in parse_inventory(said.splitlines(), "x").packages if package.kind == "rpm")
    assert found == Package(
        kind="rpm", name="bash", version="5.2-1.amzn2023", arch="x86_64", epoch="2",
        licenses=("GPL-3.0-or-later",), source="bash-5.2.src.rpm",
    )  # fmt: skip


class Engine:
    """An image in which every program says the same."""

    def __init__(self, said: str, code: int = 0) -> None:
        self.said, self.code = said, code

    def run_in_image(self, image: str, argv: tuple[str, ...], folder: Path, log: Path, timeout: float) -> ContainerRun:
        assert (folder / argv[-1].rpartition("/")[2]).is_file()
        log.write_text(self.said)
        return ContainerRun(process=ProgramResult(code=self.code, seconds=0.0), last_line=self.said.strip())


LOCAL = InspectedImage(
    image=BuiltImage(id=IMAGE.id, size=1),
    labels={"org.opencontainers.image.title": "vw", "org.opencontainers.image.version": "9.11.9"},
    env=(), entrypoint=(), command=(), user="", workdir="", created=IMAGE.created,
)  # fmt: skip


def test_an_image_is_described_by_its_labels_and_what_is_inside(tmp_path) -> None:
    engine = Engine("\n".join(say(RECORDS)))
    text = image_sbom(LOCAL, "python3", engine, root=ROOT, folder=tmp_path)
    assert text == compose_sbom(parse_inventory(say(RECORDS), "x"), IMAGE)


def test_an_image_without_python_is_said_so(tmp_path) -> None:
    with pytest.raises(ToolError, match="with python3: sh: python3: not found"):
        image_sbom(LOCAL, "python3", Engine("sh: python3: not found", 127), root=ROOT, folder=tmp_path)
