"""Both graphs in ONNX Runtime, on a CPU or on CUDA: what is large stays on the device, bound from step to step."""

import numpy as np
import onnxruntime as ort

from .graphs import DECODER, ENCODER, INPUTS, LOGITS, SCORES

FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeGraphs:
    """See graphs.py. Any number of windows and frames; nothing is padded."""

    def __init__(self, folder, device, most_windows):
        self.place, self.most_windows = (device.kind, device.number), most_windows
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = device.threads, 1
        name = PROVIDERS[device.kind]
        provider = (name, {"device_id": str(device.number)} if device.kind == "cuda" else {})
        self.encoder, self.decoder = (
            ort.InferenceSession(str(folder / f"{name}.onnx"), options, providers=[provider])
            for name in (ENCODER, DECODER)
        )
        for session in (self.encoder, self.decoder):
            if session.get_providers()[0] != name:
                raise RuntimeError(f"this ONNX Runtime has no {name}, and would compute on the CPU silently")
        shapes = {tensor.name: tensor for tensor in self.decoder.get_inputs()}
        self.pasts = {name: tensor for name, tensor in shapes.items() if name.startswith("past_")}

    def windows(self, count):
        return count

    def frames(self, count):
        return count

    def encode(self, mel):
        binding = self.encoder.io_binding()
        binding.bind_cpu_input("mel", mel)
        names = [tensor.name for tensor in self.encoder.get_outputs()]
        for name in names:
            binding.bind_output(name, *self.place)
        self.encoder.run_with_iobinding(binding)
        return dict(zip(names, binding.get_outputs(), strict=True))

    def past(self, sound, windows, capacity):
        kept = {}
        for name, tensor in self.pasts.items():
            _rows, heads, _capacity, width = tensor.shape
            nothing = np.zeros((windows, heads, capacity, width), FLOATS[tensor.type])
            kept[name] = ort.OrtValue.ortvalue_from_numpy(nothing, *self.place)
        return _Past(self, sound, kept)


class _Past:
    def __init__(self, graphs, sound, kept):
        self.graphs, self.kept = graphs, kept
        self.binding = graphs.decoder.io_binding()
        for name, value in sound.items():
            self.binding.bind_ortvalue_input(name, value)
        self.names = [tensor.name for tensor in graphs.decoder.get_outputs()]

    def step(self, tokens, position, wanted, parents=None, *, with_scores=False):
        rows, count = tokens.shape
        parents = np.arange(rows) if parents is None else parents
        arrays = (tokens, np.arange(position, position + count), wanted, parents)
        fed = [np.ascontiguousarray(array, np.int32) for array in arrays]
        for name, array in zip(INPUTS, fed, strict=True):
            self.binding.bind_cpu_input(name, array)
        for name, value in self.kept.items():
            self.binding.bind_ortvalue_input(name, value)
        self.binding.clear_binding_outputs()
        for name in self.names:
            if name == LOGITS:
                self.binding.bind_output(name, "cpu")
            else:
                self.binding.bind_output(name, *self.graphs.place)
        self.graphs.decoder.run_with_iobinding(self.binding)
        outputs = dict(zip(self.names, self.binding.get_outputs(), strict=True))
        self.kept = {name: outputs[name.replace("past", "present", 1)] for name in self.kept}
        logits = outputs[LOGITS].numpy().astype(np.float32, copy=False)
        return logits, outputs[SCORES].numpy() if with_scores else None
