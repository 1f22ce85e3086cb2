"""`GET /v1/models`."""

import time

from fastapi import APIRouter

from services.gateway.directory import Directory
from services.gateway.errors import RESPONSES
from services.gateway.fleet import Card
from services.gateway.schemas.models import ModelRow, ModelsResponse


def create_router(directory: Directory) -> APIRouter:
    """Return the routes over `directory`."""
    router = APIRouter(tags=["models"])
    started = int(time.time())

    def row(card: Card) -> ModelRow:
        return ModelRow(id=card.id, root=card.id, created=started, max_model_len=card.context_length)

    @router.get("/v1/models", response_model_exclude_none=True, responses=RESPONSES)
    async def list_models() -> ModelsResponse:
        """List the models that are loaded."""
        return ModelsResponse(data=[row(card) for card in await directory.cards()])

    @router.get("/v1/models/{model}", response_model_exclude_none=True, responses=RESPONSES)
    async def get_model(model: str) -> ModelRow:
        """Describe one model."""
        return row(await directory.find(model))

    return router
