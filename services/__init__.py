"""The services of Flotilla: one package each, and what they share in `services.common`."""

import os

# ONNX Runtime reports to its makers unless told otherwise before it is imported anywhere.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
