import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlimages.engine.container import ContainerRun
from rlimages.errors import ToolError
from rlimages.supplychain.inventory import (
    INVENTORY_PROGRAM,
    LINE_PREFIX,
    InstalledPackage,
    parse_inventory,
    take_inventory,
)
from rlimages.system.process import ProgramResult

ROOT = Path(__file__).resolve().parents[3]
RECORDS = [
    {"kind": "os", "id": "debian", "version": "12"},
    {"kind": "deb", "name": "libc6", "version": "2.36-9", "arch": "amd64", "source": "glibc", "source_version": "2.36-9", "licenses": []},
    {"kind": "pypi", "name": "six", "version": "1.17", "expression": "", "licenses": ["MIT"], "classifiers": ["MIT License"], "folder": "/b"},
    {"kind": "pypi", "name": "Six", "version": "1.17", "expression": "", "licenses": ["MIT"], "classifiers": [], "folder": "/a"},
    {"kind": "unreadable", "path": "/root"},
]  # fmt: skip


def output(records: list[dict[str, object]]) -> list[str]:
    end = {"kind": "end", "records": len(records)}
    return ["a line of the entrypoint", *(LINE_PREFIX + json.dumps(record) for record in [*records, end])]


def test_the_output_of_the_program_is_parsed() -> None:
    found = parse_inventory(output(RECORDS), "x")
    assert (found.os, found.os_version, found.unreadable) == ("debian", "12", ("/root",))
    libc, six = found.packages
    assert (libc.name, libc.source) == ("libc6", "glibc")
    assert six.folders == ("/a", "/b")


def test_an_incomplete_list_is_an_error() -> None:
    lines = output(RECORDS)
    for part in (lines[:-1], lines[:2] + lines[3:], []):
        with pytest.raises(ToolError, match="x: the list of its packages is not complete"):
            parse_inventory(part, "x")


@pytest.mark.parametrize(
    ("fields", "licenses"),
    [
        ({"expression": "MIT OR X", "licenses": ["a"], "classifiers": ["b"]}, ("MIT OR X",)),
        ({"expression": "", "licenses": ["a"], "classifiers": ["b"]}, ("a",)),
        ({"expression": "", "licenses": [], "classifiers": ["b", "c"]}, ("b", "c")),
    ],
)
def test_the_most_precise_licence_field_counts(fields, licenses) -> None:
    (found,) = parse_inventory(
        output([{"kind": "pypi", "name": "six", "version": "1", "folder": "/a", **fields}]), "x"
    ).packages
    assert found.licenses == licenses


PYTHON = ".".join(map(str, sys.version_info[:3]))
COPYRIGHT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nLicense: GPL-2+\n"


@pytest.fixture
def system(tmp_path) -> Path:
    """Return a folder with the files of a small image."""
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


def test_the_program_lists_packages_of_dpkg_and_python(system) -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / INVENTORY_PROGRAM, system], capture_output=True, text=True, check=True
    ).stdout
    found = parse_inventory(printed.splitlines(), "x")
    assert (found.os, found.os_version) == ("debian", "12")
    assert found.packages == (
        InstalledPackage(kind="deb", name="adduser", version="3.134", arch="all", licenses=("GPL-2+",)),
        InstalledPackage(kind="deb", name="libc6", version="2.36-9+b1", arch="amd64", source="glibc@2.36-9"),
        InstalledPackage(
            kind="generic", name="python", version=PYTHON, folders=(os.path.dirname(os.path.realpath(sys.executable)),)
        ),
        InstalledPackage(
            kind="pypi",
            name="numpy",
            version="2.4.6",
            licenses=("BSD-3-Clause",),
            folders=("/opt/venv/lib/python3.11/site-packages",),
        ),
        InstalledPackage(
            kind="pypi", name="old", version="1", licenses=("MIT License",), folders=("/usr/lib/python3/dist-packages",)
        ),
    )


def test_the_program_lists_packages_of_rpm(system) -> None:
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
    printed = subprocess.run(argv, capture_output=True, text=True, check=True, env=environ).stdout
    (found,) = (package for package in parse_inventory(printed.splitlines(), "x").packages if package.kind == "rpm")
    assert found == InstalledPackage(
        kind="rpm", name="bash", version="5.2-1.amzn2023", arch="x86_64", epoch="2",
        licenses=("GPL-3.0-or-later",), source="bash-5.2.src.rpm",
    )  # fmt: skip


class Engine:
    """An engine with an image in which every program prints the same."""

    def __init__(self, printed: str, code: int = 0) -> None:
        self.printed, self.code = printed, code

    def run_in_image(self, image: str, argv: tuple[str, ...], folder: Path, log: Path, timeout: float) -> ContainerRun:
        assert (folder / argv[-1].rpartition("/")[2]).is_file()
        log.write_text(self.printed)
        return ContainerRun(process=ProgramResult(code=self.code, seconds=0.0), last_line=self.printed.strip())


def test_an_image_without_python_is_an_error(tmp_path) -> None:
    with pytest.raises(ToolError, match="cannot list the packages of this image with python3: sh: python3: not found"):
        take_inventory("x", "python3", Engine("sh: python3: not found", 127), root=ROOT, folder=tmp_path)
