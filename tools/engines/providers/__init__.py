"""The graphs of each service with their data and measures: one provider for a service."""

from collections.abc import Mapping

from tools.engines.providers import embedding, speech, vision
from tools.engines.subjects import Provider

PROVIDERS: Mapping[str, Provider] = {
    "embedding": embedding.subjects,
    "vision": vision.subjects,
    "asr": speech.subjects,
}
