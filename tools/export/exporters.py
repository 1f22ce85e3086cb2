"""The exporters by the name that the manifest uses: which module runs, in which environment, in which version.

Imported by the tools, so it imports no exporter: those need packages that only their own environment has.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exporter:
    """One exporter; raising the version makes what it exported before outdated."""

    name: str
    version: int
    module: str
    """Run as `python -m <module> --source DIR --out DIR --facts JSON`."""
    environment: str
    """The extra of pyproject.toml with the packages it needs."""


EXPORTERS = {
    exporter.name: exporter
    for exporter in (
        Exporter("sentence-encoder", 1, "tools.export.sentence_encoder", "export"),
        Exporter("efficientnet-lite", 1, "tools.export.efficientnet", "export"),
        Exporter("pp-ocr", 2, "tools.export.pp_ocr", "export-onnx"),
        Exporter("centerface", 1, "tools.export.centerface", "export-onnx"),
        Exporter("ssd", 1, "tools.export.ssd", "export-tensorflow"),
        Exporter("llama", 1, "tools.export.llm.exporter", "export-llm"),
        Exporter("whisper", 1, "tools.export.whisper", "export-speech"),
    )
}
