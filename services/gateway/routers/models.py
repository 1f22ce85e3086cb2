"""`GET /v1/models`."""

import time

from fastapi import APIRouter

from services.gateway.directory import Directory
from services.gateway.errors import RESPONSES
from services.gateway.schemas.models import ModelRow, ModelsResponse


def create_router(directory: Directory) -> APIRouter:
    """Return the routes over `directory`."""
    router = APIRouter(tags=["models"])
    started = int(time.time())

    @router.get("/v1/models")
    async def list_models() -> ModelsResponse:
        """List the models that are loaded."""
        return ModelsResponse(
            data=[ModelRow(id=card.id, root=card.id, created=started) for card in await directory.cards()]
        )

    @router.get("/v1/models/{model}", responses={404: RESPONSES[404]})
    async def get_model(model: str) -> ModelRow:
        """Describe one model."""
        card = await directory.find(model)
        return ModelRow(id=card.id, root=card.id, created=started)

    return router
