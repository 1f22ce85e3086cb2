"""`GET /v1/metadata` and `/v1/version` as NIM has them."""

from typing import Any

from fastapi import APIRouter

from services.gateway.directory import Directory
from services.gateway.fleet import Card
from services.gateway.version import release


def create_router(directory: Directory) -> APIRouter:
    """Return the routes over `directory`."""
    router = APIRouter(tags=["metadata"])
    this_release = release()

    @router.get("/v1/metadata")
    async def metadata() -> dict[str, Any]:
        """Describe this installation and the models that are loaded."""
        cards = await directory.cards()
        return {
            "version": this_release,
            "modelInfo": [_model_info(card) for card in cards],
            "selectedModelProfileId": cards[0].profile if cards else "",
            "licenseInfo": {"name": "Apache-2.0", "type": "spdx"},
            "repository_override": "",
        }

    @router.get("/v1/version")
    async def version() -> dict[str, str]:
        """Return the release, and the version of this HTTP API."""
        return {"release": this_release, "api": "1"}

    return router


def _model_info(card: Card) -> dict[str, str]:
    return {"shortName": card.id, "modelUrl": "", "profile": card.profile, "license": card.license}
