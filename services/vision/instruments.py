"""The metrics of the vision service that only it has."""

from services.common.telemetry import SECONDS, Telemetry


class Instruments:
    """What is counted of pictures, labelled with the task or the file format."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.images = telemetry.counter("flotilla_vision_images", "Pictures answered.")
        self.pixels = telemetry.counter("flotilla_vision_pixels", "Pixels of the pictures answered, as sent.")
        self.bytes = telemetry.counter("flotilla_vision_bytes", "Bytes of the pictures answered, as sent.")
        self.found = telemetry.counter("flotilla_vision_found", "Results: classes, objects, lines of text, faces.")
        self.refused = telemetry.counter("flotilla_vision_images_refused", "Pictures that could not be used.")
        self.queued = telemetry.histogram(
            "flotilla_vision_decode_queue_time", "Wait of a picture for memory and a thread to decode it.", SECONDS, "s"
        )
        self.decoding = telemetry.histogram(
            "flotilla_vision_decode_duration", "Time to decode a picture and scale it for its model.", SECONDS, "s"
        )
