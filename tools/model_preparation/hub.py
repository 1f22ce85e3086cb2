"""Files from a Hugging Face hub or a mirror of one (HF_ENDPOINT); a broken-off download goes on where it stopped."""

from collections.abc import Iterable
from pathlib import Path

from services.common.manifest import HubSource, SourceFile
from tools.cli.console import Problem
from tools.model_preparation.commands import DiskFullError


def download_from_hub(source: HubSource, files: Iterable[SourceFile], folder: Path) -> None:
    """Download the files at the pinned revision into folder; optional ones may be absent."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - slow to import, rarely needed
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415
    from huggingface_hub.utils import disable_progress_bars, logging  # type: ignore[attr-defined]  # noqa: PLC0415

    disable_progress_bars()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        try:
            hf_hub_download(source.repo, file.name, revision=source.revision, local_dir=folder)
        except LocalEntryNotFoundError as error:
            raise _problem(source, "the hub cannot be reached") from error
        except HfHubHTTPError as error:
            if isinstance(error, EntryNotFoundError) and file.optional:
                continue
            raise _problem(source, f"{file.name}: {_first_line(error)}") from error
        except OSError as error:
            if error.errno in {28, 122}:
                raise DiskFullError(folder) from error
            raise _problem(source, "the hub cannot be reached") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _problem(source: HubSource, message: str) -> Problem:
    return Problem(
        f"{source}: {message}",
        "check the network and HF_ENDPOINT; or bring ready-made artifacts: tools/models import MODEL FOLDER",
    )
