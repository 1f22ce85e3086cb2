"""A request to copy for every route of the OpenAPI document, on the models that come with Flotilla."""

from collections.abc import Callable
from typing import Any

_LANGUAGE, _EMBEDDING = "smollm2-135m-instruct", "all-minilm-l6-v2"
_TRITON_TEXT = "all_minilm_l6_v2_text"
_MESSAGES = [{"role": "user", "content": "Name a colour."}]
_DOT = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_IMAGE = {"input": [{"type": "image_url", "url": _DOT}]}
_INFER = {"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["hello"]}]}
_TOKENIZE, _DETOKENIZE = {"prompt": "The sea"}, {"tokens": [504, 3426]}
_UPLOAD = {"file": "speech.wav", "model": "whisper-base"}

REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": _LANGUAGE, "messages": _MESSAGES, "max_tokens": 20},
    "/v1/completions": {"model": _LANGUAGE, "prompt": "The sea is", "max_tokens": 8},
    "/v1/responses": {
        "model": _LANGUAGE,
        "instructions": "Answer in one word.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Name a colour."}]}],
        "max_output_tokens": 20,
    },
    "/v1/tokenize": _TOKENIZE,
    "/tokenize": _TOKENIZE,
    "/v1/detokenize": _DETOKENIZE,
    "/detokenize": _DETOKENIZE,
    "/v1/embeddings": {"model": _EMBEDDING, "input": ["first text", "second text"]},
    "/v1/ranking": {
        "model": _EMBEDDING,
        "query": {"text": "capital of France"},
        "passages": [{"text": "Paris"}, {"text": "cheese"}],
    },
    "/v1/rerank": {"model": _EMBEDDING, "query": "capital of France", "documents": ["Paris", "cheese"]},
    "/v1/classify": {**_IMAGE, "top_k": 3},
    "/v1/detect": _IMAGE,
    "/v1/page-elements": _IMAGE,
    "/v1/faces": _IMAGE,
    "/v1/ocr": _IMAGE,
    "/v1/infer": {**_IMAGE, "model": "ssd-mobilenet-v2"},
    "/v1/audio/transcriptions": _UPLOAD,
    "/v1/audio/translations": _UPLOAD,
    "/v2/repository/index": {"ready": True},
    "/v2/models/{model}/infer": _INFER,
    "/v2/models/{model}/generate": {"text": "hello"},
    "/v2/models/{model}/generate_stream": {"text": "hello"},
}
"""Bodies by path. A path with the version of a model takes what the one without takes."""


def add_examples(document: dict[str, Any]) -> None:
    """Put the examples into an OpenAPI document."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["example"] = _parameter(path, parameter["name"])
            example = request_for(path)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if example is not None and not _is_raw(content.get("schema", {})):
                    content.setdefault("example", example)


def request_for(path: str) -> dict[str, Any] | None:
    """Return the body to copy for a path of the document."""
    return REQUESTS.get(path.replace("/versions/{version}", ""))


def documented(openapi: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Return what makes the OpenAPI document, with the examples in it and without what the framework would answer."""

    def make() -> dict[str, Any]:
        document = openapi()
        add_examples(document)
        _leave_out_422(document)
        return document

    return make


def _leave_out_422(document: dict[str, Any]) -> None:
    """Every refusal here is a 400 with the body of all errors; the framework describes one of its own."""
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)


def _parameter(path: str, name: str) -> str:
    if name == "version":
        return "1"
    if name == "response_id":
        return "resp_1"
    return _TRITON_TEXT if path.startswith("/v2/") else _EMBEDDING


def _is_raw(schema: dict[str, Any]) -> bool:
    """Whether a body is a file, which JSON cannot show."""
    return bool(schema.get("type") == "string")
