"""`GET /v1/metadata`, `/v1/version`, `/v1/manifest` and `/v1/license` as NIM has them."""

import hashlib
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from services.common.settings import REPOSITORY_ROOT
from services.gateway.directory import Directory
from services.gateway.errors import RESPONSES
from services.gateway.fleet import Card
from services.gateway.version import release

LICENSE, LICENSE_URL = "Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"


def create_router(directory: Directory, manifest: Path) -> APIRouter:
    """Return the routes over `directory`; `manifest` is the model manifest of this installation."""
    router = APIRouter(tags=["metadata"])
    this_release, licence = release(), _license(REPOSITORY_ROOT / "LICENSE")
    manifest_text = _text(manifest)

    @router.get("/v1/metadata", responses=RESPONSES)
    async def metadata() -> dict[str, Any]:
        """Describe this installation and the models that are loaded."""
        cards = await directory.cards()
        return {
            "version": this_release,
            "modelInfo": [_model_info(card) for card in cards],
            "selectedModelProfileId": cards[0].profile if cards else "",
            "licenseInfo": {"name": LICENSE, "type": "spdx", "url": LICENSE_URL},
            "repository_override": "",
        }

    @router.get("/v1/version")
    async def version() -> dict[str, str]:
        """Return the release, and the version of this HTTP API."""
        return {"release": this_release, "api": "1"}

    @router.get("/v1/manifest", responses=RESPONSES)
    async def model_manifest() -> dict[str, Any]:
        """Return the profiles in use, and the manifest they were chosen from where this machine has it."""
        profiles = [_profile(card) for card in await directory.cards()]
        return {"manifest_file": manifest_text, "repository_override": "", "profiles": profiles}

    @router.get("/v1/license")
    async def license_text() -> dict[str, Any]:
        """Return the licence of this software. Those of the models are in `/v1/metadata`."""
        return licence

    return router


def _model_info(card: Card) -> dict[str, str]:
    return {"shortName": card.id, "modelUrl": "", "profile": card.profile, "license": card.license}


def _profile(card: Card) -> dict[str, Any]:
    return {"model": card.id, "profile": card.profile, "triton_models": list(card.triton_models)}


def _license(path: Path) -> dict[str, Any]:
    content = _text(path)
    raw = content.encode()
    return {
        "name": LICENSE,
        "type": "file",
        "path": path.name,
        "url": LICENSE_URL,
        "size": len(raw),
        "sha": hashlib.sha256(raw).hexdigest(),
        "content": content,
    }


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
