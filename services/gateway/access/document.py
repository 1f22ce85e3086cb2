"""What the OpenAPI document says of keys: how they are sent, and which routes ask for none."""

from collections.abc import Callable
from typing import Any

from services.gateway.access.access import API_KEY

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    API_KEY: {"type": "apiKey", "in": "header", "name": API_KEY},
}


def with_keys(openapi: Callable[[], dict[str, Any]], is_keyless: Callable[[str], bool]) -> Callable[[], dict[str, Any]]:
    """Return what makes the OpenAPI document of a gateway that asks for keys but where `is_keyless(path)`."""

    def make() -> dict[str, Any]:
        document = openapi()
        document.setdefault("components", {})["securitySchemes"] = _SCHEMES
        document["security"] = [{name: []} for name in _SCHEMES]
        for path, operations in document["paths"].items():
            if is_keyless(path):
                for operation in operations.values():
                    operation["security"] = []
        return document

    return make
