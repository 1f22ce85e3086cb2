"""Settings of the vision service: `FLOTILLA_VISION_...`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings


class VisionSettings(ServiceSettings):
    """See the docstring of each field."""

    model_config = SettingsConfigDict(env_prefix="FLOTILLA_VISION_")

    grpc_port: int = Field(default=50064, ge=0, le=65535)
    """Port of the gRPC interface; 0 takes a free one."""
    http_port: int = Field(default=9064, ge=0, le=65535)
    """Port of health and metrics; 0 takes a free one."""
    latency_objective_seconds: float = Field(default=0.5, gt=0)
    """Pictures are in time when they take so long at most, and so much more for each slot-second of their cost."""
    latency_objective_seconds_per_unit: float = Field(default=4.0, ge=0)
    """What the latency objective grants for each slot-second that the pictures of a call are estimated to cost."""
    max_message_bytes: int = Field(default=64 * 1024 * 1024, ge=32 * 1024 * 1024)
    """Largest gRPC message, in and out, to Triton as well: the map of a large page of text has 17 MiB."""
    admission_concurrency: int = Field(default=32, ge=1)
    """Calls worked on at the same time. 32 calls of one picture fill two batches; pixels are bounded on their own."""
    admission_queue: int = Field(default=96, ge=0)
    """Calls that may wait for a place. Each holds its message, so this and max_message_bytes bound the memory."""
    max_images: int = Field(default=64, ge=1)
    """Pictures in one unary call."""
    max_stream_images: int = Field(default=4096, ge=1)
    """Pictures in one InferStream call; max_message_bytes bounds them too."""
    max_image_bytes: int = Field(default=25 * 1024 * 1024, ge=1)
    """Bytes of one file."""
    max_pixels: int = Field(default=50_000_000, ge=1)
    """Width times height of one picture, read from its header before anything is decoded."""
    max_side: int = Field(default=16_384, ge=1)
    """Width and height of one picture."""
    max_pixel_memory_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    """Memory of decoded pictures that are being worked on. A full-size decode lasts only until it is scaled down for
    its model; there are at most `cpu_threads` of those at a time besides."""
    max_images_in_flight: int = Field(default=32, ge=1)
    """Pictures of one call that are worked on, or wait for their caller to read the result, at the same time."""
    max_batch_items: int = Field(default=8, ge=1)
    """Pictures, or lines of text, in one batch for the engine; never more than the model's configuration allows."""
    max_batch_line_width: int = Field(default=1024, ge=320)
    """Lines of a batch times the width of the longest in pixels, at a height of 48. A longer line is read alone: on a
    CPU a batch of long lines is slower than one after the other. Raise it for a GPU."""
    max_face_side: int = Field(default=1280, ge=32)
    """Pictures are scaled down to this longest side before faces are looked for."""
    batch_timeout_seconds: float = Field(default=60.0, gt=0)
    """Longest time the engine may take for a batch before its calls fail."""
