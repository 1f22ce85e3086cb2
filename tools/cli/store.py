"""The manifest and the model store that a command works on, as the environment says."""

from services.common.manifest import Manifest, ManifestError, load_manifest
from services.common.model_store import ModelStore
from services.common.settings import load
from tools.cli.console import Problem
from tools.cli.settings import ToolSettings


def open_store() -> tuple[ToolSettings, Manifest, ModelStore]:
    """Return settings, manifest and store of the environment. Problem for a manifest that is wrong."""
    settings = load(ToolSettings)
    try:
        manifest = load_manifest(settings.model_manifest)
    except ManifestError as error:
        raise Problem(str(error), "correct the manifest; docs/models.md explains it") from error
    return settings, manifest, ModelStore(settings.model_store.expanduser())
