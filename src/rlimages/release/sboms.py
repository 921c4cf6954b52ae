"""Get the SBOMs of a release: generate them for local images, and read attested ones for images in a registry.

Only a target with a key needs them, since an SBOM is attested with that key.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from rlimages.engine.docker import DockerEngine
from rlimages.plan.results import CellReport
from rlimages.project.project import Project
from rlimages.registry.auth import temporary_docker_config
from rlimages.release.model import RegistryConnection, ReleaseItem
from rlimages.supplychain.cosign import SignedImage
from rlimages.supplychain.inventory import INVENTORY_PROGRAM
from rlimages.supplychain.sbom import image_sbom
from rlimages.supplychain.signing import Cosign, SigningKey, verification_key, verify_image
from rlimages.system.context import RunContext


def make_sboms(cells: Iterable[CellReport], project: Project, engine: DockerEngine, folder: Path) -> Mapping[str, str]:
    """Return cell id -> SBOM (CycloneDX JSON text) of the local image that the report of the cell names.

    A program runs in each image and lists its packages. Its logs are written to `logs/<cell id>` in `folder`. Cells
    without an image, or whose image `engine` does not have, are left out.
    """
    sboms = {}
    for cell in cells:
        image = engine.inspect(cell.image.id) if cell.image else None
        if image is not None:
            logs = folder / "logs" / cell.cell.id
            logs.mkdir(parents=True, exist_ok=True)
            root = _root_with(project, INVENTORY_PROGRAM)
            sboms[cell.cell.id] = image_sbom(image, cell.cell.base.interpreter, engine, root=root, folder=logs)
    return sboms


def _root_with(project: Project, path: Path) -> Path:
    """Return the root of the first project, this or a parent, that has the file `path`; this one's if none has."""
    return next((root for root in project.roots if (root / path).exists()), project.root)


def inherited_sboms(
    connection: RegistryConnection,
    digests: Mapping[ReleaseItem, str],
    key: SigningKey,
    *,
    folder: Path,
    context: RunContext,
) -> Mapping[str, str]:
    """Return cell id -> SBOM (CycloneDX JSON text) from the attestations that were made with the private key `key`.

    `digests` (item -> manifest digest) are images in the registry of `connection`. `folder` gets the public key that
    belongs to `key`. Raises `RegistryError` if an image is not signed with the key, or has no attested SBOM.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # cosign reads the registry's credentials from a Docker configuration.
    with temporary_docker_config(connection.credentials, [connection.registry.host], context.environ) as login:
        public = verification_key(Cosign(login, context=context), key, folder)
    return verified_sboms(connection, digests, public, context=context)


def verified_sboms(
    connection: RegistryConnection, digests: Mapping[ReleaseItem, str], public: str, *, context: RunContext
) -> Mapping[str, str]:
    """Return cell id -> SBOM (CycloneDX JSON text) from the attestations that the key `public` (file or URI) verifies.

    `digests` (item -> manifest digest) are images in the registry of `connection`. Raises `RegistryError` if an image
    is not signed with the key, or has no attested SBOM.
    """
    with temporary_docker_config(connection.credentials, [connection.registry.host], context.environ) as login:
        cosign = Cosign(login, context=context)
        sboms = {}
        for item, digest in digests.items():
            image = SignedImage(
                host=connection.registry.host, repository=connection.registry.repository(item), digest=digest
            )
            sboms[item.cell] = json.dumps(verify_image(cosign, image, public).sbom, indent=2)
        return sboms
