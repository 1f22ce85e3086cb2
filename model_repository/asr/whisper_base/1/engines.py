"""The engine that a configuration names. Each is imported only where it is used: a machine has one of them."""

from .device import Device

DEFAULT = "ctranslate2"


def open_recogniser(config, folder, special, device_id):
    """Return what reads, by the parameters of a Triton configuration.

    engine        ctranslate2 (default), onnxruntime or tensorrt
    device        cpu (default) or cuda
    threads       what a CPU computes with
    compute_type  of CTranslate2: int8, float32, float16
    """
    parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
    engine, most_windows = parameters.get("engine", DEFAULT), max(1, config["max_batch_size"])
    device = Device(parameters.get("device", "cpu"), max(0, device_id), int(parameters["threads"]))
    if engine == DEFAULT:
        from .recogniser import Recogniser  # noqa: PLC0415 - see above

        return Recogniser(folder, special, device, parameters["compute_type"])
    from .graph_recogniser import GraphRecogniser  # noqa: PLC0415

    if engine == "onnxruntime":
        from .onnxruntime_graphs import OnnxRuntimeGraphs  # noqa: PLC0415

        return GraphRecogniser(OnnxRuntimeGraphs(folder, device, most_windows), special)
    from .tensorrt_graphs import TensorRtGraphs  # noqa: PLC0415

    return GraphRecogniser(TensorRtGraphs(folder, device, most_windows), special)
