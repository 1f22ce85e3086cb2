"""An ASR service process; its messages are as large as they are in production, since windows and files are large."""

from pathlib import Path

from tests.integration.service_process import ServiceProcess


def asr_process(state: Path, environment: dict[str, str] | None = None) -> ServiceProcess:
    sizes = {"FLOTILLA_ASR_MAX_MESSAGE_BYTES": str(64 * 2**20)}
    return ServiceProcess(state, sizes | (environment or {}), name="asr")
