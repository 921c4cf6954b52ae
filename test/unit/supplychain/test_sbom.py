import json
from pathlib import Path

import pytest

from rlimages.engine.container import ContainerRun
from rlimages.engine.protocol import BuiltImage, InspectedImage
from rlimages.supplychain.inventory import LINE_PREFIX, InstalledPackage, PackageInventory, parse_inventory
from rlimages.supplychain.sbom import SbomSubject, compose_sbom, image_sbom, sbom_image_id
from rlimages.system.process import ProgramResult

ROOT = Path(__file__).resolve().parents[3]
IMAGE = SbomSubject(id="sha256:" + "ab" * 32, name="vw", version="9.11.9", created="2026-11-21T13:15:08.991930216Z")


def package(**fields: object) -> InstalledPackage:
    return InstalledPackage(**{"kind": "pypi", "name": "six", "version": "1.17", **fields})  # type: ignore[arg-type]


def bom(*packages: InstalledPackage, os: str = "debian", os_version: str = "12") -> dict[str, object]:
    return json.loads(compose_sbom(PackageInventory(os=os, os_version=os_version, packages=packages), IMAGE))


@pytest.mark.parametrize(
    ("fields", "purl"),
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
def test_packages_have_the_package_urls_that_vulnerability_scanners_know(fields, purl) -> None:
    components = bom(package(**fields))["components"]
    assert [entry["purl"] for entry in components if entry["type"] == "library"] == [purl]


@pytest.mark.parametrize(
    ("names", "licenses"),
    [
        (("MIT",), [{"license": {"id": "MIT"}}]),
        (("Apache-2.0 OR BSD-3-Clause",), [{"expression": "Apache-2.0 OR BSD-3-Clause"}]),
        (("Dual License",), [{"license": {"name": "Dual License"}}]),
        (("MIT", "OSI Approved", "GPL-2+"), [{"license": {"id": "MIT"}}, {"license": {"name": "GPL-2+"}}]),
    ],
)
def test_licences_are_spdx_ids_expressions_or_names(names, licenses) -> None:
    (entry,) = (entry for entry in bom(package(licenses=names))["components"] if entry["type"] == "library")
    assert sorted(entry["licenses"], key=str) == sorted(licenses, key=str)


def test_the_same_image_gives_the_same_text() -> None:
    packages = (package(), package(name="a"), package(name="b", folders=("/y", "/x")))
    texts = {
        compose_sbom(PackageInventory(os="debian", os_version="12", packages=order), IMAGE)
        for order in (packages, packages[::-1])
    }
    assert len(texts) == 1


def test_serial_number_and_time_are_derived_from_the_image() -> None:
    sbom = bom()
    assert sbom["metadata"]["timestamp"] == "2026-11-21T13:15:08.991930+00:00"
    assert sbom["serialNumber"] == bom()["serialNumber"]
    assert sbom_image_id(sbom) == IMAGE.id
    assert sbom_image_id({}) == ""


LOCAL = InspectedImage(
    image=BuiltImage(id=IMAGE.id, size=1),
    labels={"org.opencontainers.image.title": "vw", "org.opencontainers.image.version": "9.11.9"},
    env=(), entrypoint=(), command=(), user="", workdir="", created=IMAGE.created,
)  # fmt: skip


class Engine:
    """An engine with an image in which the program lists one package."""

    lines = (
        LINE_PREFIX + '{"kind": "deb", "name": "libc6", "version": "2", "arch": "amd64", "source": "glibc", '
        '"source_version": "2", "licenses": []}',
        LINE_PREFIX + '{"kind": "end", "records": 1}',
    )

    def run_in_image(self, image: str, argv: tuple[str, ...], folder: Path, log: Path, timeout: float) -> ContainerRun:
        log.write_text("\n".join(self.lines))
        return ContainerRun(process=ProgramResult(code=0, seconds=0.0), last_line=self.lines[-1])


def test_an_image_is_described_by_its_labels_and_its_packages(tmp_path) -> None:
    text = image_sbom(LOCAL, "python3", Engine(), root=ROOT, folder=tmp_path)
    assert text == compose_sbom(parse_inventory(Engine.lines, "x"), IMAGE)
