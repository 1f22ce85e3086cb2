"""Settings of the ASR service: `FLOTILLA_ASR_...`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings


class AsrSettings(ServiceSettings):
    """See the docstring of each field."""

    model_config = SettingsConfigDict(env_prefix="FLOTILLA_ASR_")

    grpc_port: int = Field(default=50063, ge=0, le=65535)
    """Port of the gRPC interface; 0 takes a free one."""
    http_port: int = Field(default=9063, ge=0, le=65535)
    """Port of health and metrics; 0 takes a free one."""
    latency_objective_seconds: float = Field(default=2.0, gt=0)
    """A file is in time when it takes so long at most, and so much more for each 10 ms of speech in it."""
    latency_objective_seconds_per_unit: float = Field(default=0.005, ge=0)
    """What the latency objective grants for each 10 ms of speech: half its length."""
    admission_concurrency: int = Field(default=16, ge=1)
    """Files worked on at the same time; live streams have places of their own."""
    admission_queue: int = Field(default=64, ge=0)
    """Files that may wait for a place."""
    max_audio_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    """Bytes of one file. It is spooled to disk, not held in memory."""
    max_audio_seconds: float = Field(default=4 * 3600.0, gt=0)
    """Length of one file, and of one live stream."""
    upload_idle_seconds: float = Field(default=60.0, gt=0)
    """Longest time in which nothing of a file that is being sent comes."""
    max_channels: int = Field(default=8, ge=1, le=8)
    """Channels of audio."""
    max_streams: int = Field(default=8, ge=1)
    """Live streams at the same time, a stream of separate channels counting once for each of them."""
    stream_idle_seconds: float = Field(default=30.0, gt=0)
    """Longest time a live stream may send nothing; silence has to be sent as audio."""
    beam_size: int = Field(default=1, ge=1, le=10)
    """Hypotheses that decoding of files keeps; more is slower and a little better."""
    max_batch_items: int = Field(default=8, ge=1)
    """Windows in one batch for the engine; never more than the model's configuration allows."""
    batch_timeout_seconds: float = Field(default=120.0, gt=0)
    """Longest time the engine may take for a batch before its calls fail."""
