"""The recogniser in Triton: requests to rows, readings to responses."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from .engines import open_recogniser
from .rows import NO_TOKEN, OPTIONS, InvalidRequestError, Row, parse_rows
from .special_tokens import read_special_tokens

INPUTS = ("mel", "frames", "prompt", *OPTIONS)
ABSENT = -1.0
WARM_UP_FRAMES = 100


class TritonPythonModel:
    """Windows of sound with their options -> texts, probabilities, times, languages."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.special = read_special_tokens(folder)
        self.recogniser = open_recogniser(config, folder, self.special, int(args["model_instance_device_id"]))
        self._warm_up()

    def execute(self, requests):
        """Read the rows of all requests as one batch; a faulty request is refused by itself.

        Triton merges only requests of one shape, so that all windows are equally long.
        """
        responses, mels, rows, owners = [None] * len(requests), [], [], []
        for number, request in enumerate(requests):
            tensors = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS}
            try:
                parsed = parse_rows(tensors, self.special)
            except InvalidRequestError as error:
                responses[number] = _failure(f"invalid argument: {error}", pb_utils.TritonError.INVALID_ARG)
                continue
            mels.append(tensors["mel"])
            rows += parsed
            owners += [number] * len(parsed)
        if not rows:
            return responses
        readings = self.recogniser.read(
            np.concatenate(mels), rows, lambda row: not requests[owners[row]].is_cancelled()
        )
        for number in dict.fromkeys(owners):
            own = [row for row, owner in enumerate(owners) if owner == number]
            if requests[number].is_cancelled():
                responses[number] = _failure("cancelled", pb_utils.TritonError.CANCELLED)
            else:
                responses[number] = _response([readings[row] for row in own])
        return responses

    def _warm_up(self):
        row = Row(
            frames=WARM_UP_FRAMES,
            prompt=(self.special.start, self.special.no_timestamps),
            start=(self.special.start,),
            timestamps=False,
            beam_size=1,
            alternatives=1,
            temperature=0.0,
            max_new_tokens=1,
            word_times=False,
            detect_language=False,
        )
        self.recogniser.read(np.zeros((1, 80, WARM_UP_FRAMES), dtype=np.float32), [row], lambda _row: True)


def _response(readings):
    """Return the response of one request, its rows padded to the longest of them."""
    width = max((len(text) for reading in readings for text in reading.texts), default=0)
    height = max(len(reading.texts) for reading in readings)
    tokens = np.full((len(readings), height, width), NO_TOKEN, dtype=np.int32)
    for row, reading in enumerate(readings):
        for place, text in enumerate(reading.texts):
            tokens[row, place, : len(text)] = text
    outputs = {
        "tokens": tokens,
        "scores": _padded([reading.scores for reading in readings], 0.0),
        "no_speech": np.array([[reading.no_speech] for reading in readings], dtype=np.float32),
        "token_times": _padded([reading.token_times for reading in readings], ABSENT),
        "token_probabilities": _padded([reading.token_probabilities for reading in readings], ABSENT),
        "languages": _padded([reading.languages for reading in readings], ABSENT),
    }
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, values) for name, values in outputs.items()])


def _padded(lists, padding):
    """Return float32 [rows, longest]."""
    padded = np.full((len(lists), max(map(len, lists))), padding, dtype=np.float32)
    for row, values in zip(padded, lists, strict=True):
        row[: len(values)] = values
    return padded


def _failure(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
