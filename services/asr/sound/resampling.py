"""Decoded frames of any rate, layout and sample format to 16 kHz and 16 bits, by libswresample. Keeps state."""

from fractions import Fraction

import numpy as np
from av import AudioFrame
from av.error import BlockingIOError as NotYetError
from av.error import EOFError as EndError
from av.filter import Graph

from services.asr.sound.audio import SAMPLE_RATE, Samples

_Kind = tuple[str, str, int]
_LOUDEST = 8.0
"""Float samples beyond are clipped before they are converted: past 2^31 they would wrap around."""


class Resampler:
    """Feeding pieces of any size gives the samples that feeding the whole gives. Not for several threads at once."""

    def __init__(self, *, separate: bool) -> None:
        """Mix the channels into one (as their layout says, else their mean) or keep them `separate`."""
        self._separate = separate
        self._kind: _Kind | None = None
        self._graph: Graph | None = None

    def feed(self, frame: AudioFrame) -> Samples:
        """Return the samples [n, channels] that are ready. Rate, layout and format may change from frame to frame."""
        kind = _kind(frame)
        tail = self.finish() if kind != self._kind else None
        if self._graph is None:
            self._graph, self._kind = self._graph_of(frame), kind
        frame.pts = None
        self._graph.push(_finite(frame))
        ready = self._ready(self._graph)
        return ready if tail is None or not len(tail) else np.concatenate([tail, ready])

    def finish(self) -> Samples:
        """Return what was held back [n, channels]; the next frame begins anew."""
        graph, self._graph, self._kind = self._graph, None, None
        if graph is None:
            return np.zeros((0, 1), np.int16)
        graph.push(None)
        return self._ready(graph)

    def _graph_of(self, frame: AudioFrame) -> Graph:
        layout = frame.layout.name
        graph = Graph()
        graph.threads = 1
        source = graph.add(
            "abuffer",
            sample_rate=str(frame.sample_rate),
            sample_fmt=frame.format.name,
            channel_layout=layout,
            time_base=str(Fraction(1, frame.sample_rate)),
        )
        target = graph.add(
            "aformat",
            sample_rates=str(SAMPLE_RATE),
            sample_fmts="s16",
            channel_layouts="mono" if not self._separate and _has_places(layout) else layout,
        )
        sink = graph.add("abuffersink")
        source.link_to(target)
        target.link_to(sink)
        graph.configure()
        return graph

    def _ready(self, graph: Graph) -> Samples:
        pieces = []
        while True:
            try:
                frame = graph.pull()
            except (NotYetError, EndError):
                break
            if isinstance(frame, AudioFrame):
                pieces.append(self._mixed(frame))
        return np.concatenate(pieces) if pieces else np.zeros((0, 1), np.int16)

    def _mixed(self, frame: AudioFrame) -> Samples:
        samples = np.asarray(frame.to_ndarray(), np.int16).reshape(-1, frame.layout.nb_channels)
        if self._separate or samples.shape[1] == 1:
            return samples
        mean = samples.mean(axis=1, keepdims=True, dtype=np.float32)
        return np.asarray(np.rint(mean), np.int16)


def _kind(frame: AudioFrame) -> _Kind:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _has_places(layout: str) -> bool:
    """Whether it is known where each channel's loudspeaker stands; otherwise it is called "4 channels"."""
    return not layout.endswith(" channels")


def _finite(frame: AudioFrame) -> AudioFrame:
    """Return the frame with infinite samples silenced: a single one would spoil all those around it.

    Those can be in files of float samples, which are packed. Planar frames are left alone: PyAV 18 reads past the end
    of the list of planes when there are eight.
    """
    if frame.format.name not in ("flt", "dbl"):
        return frame
    samples = frame.to_ndarray()
    if np.abs(samples).max(initial=0.0) <= _LOUDEST:  # not so for NaN
        return frame
    np.nan_to_num(samples, copy=False, posinf=0.0, neginf=0.0)
    np.clip(samples, -_LOUDEST, _LOUDEST, out=samples)
    cleaned = AudioFrame.from_ndarray(samples, format=frame.format.name, layout=frame.layout.name)
    cleaned.sample_rate = frame.sample_rate
    return cleaned
