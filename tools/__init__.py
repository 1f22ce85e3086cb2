"""What a person runs: start, stop, check, prepare, measure."""

import os

# ONNX Runtime reports to its makers unless told otherwise before it is imported anywhere.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
