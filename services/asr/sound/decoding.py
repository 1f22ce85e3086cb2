"""A spooled file, or raw samples, to 16 kHz on disk: in a thread, piece by piece, with every limit held."""

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from av import AudioFrame
from av.audio.fifo import AudioFifo

from services.asr.sound.audio import SAMPLE_RATE, Audio, AudioFormat, AudioLimits, Samples
from services.asr.sound.media_file import MediaFile, too_long
from services.asr.sound.raw_samples import RawSamples
from services.asr.sound.resampling import Resampler
from services.asr.sound.scratch import ScratchFile
from services.asr.sound.spool import Spool
from services.asr.sound.wav_header import is_wav
from services.asr.thread_work import run_to_end
from services.common.errors import invalid

_PIECE_BYTES = 256 * 1024


class _GivenUpError(Exception):
    """Nobody waits for the result any more."""


async def decode(
    spool: Spool, audio_format: AudioFormat | None, limits: AudioLimits, *, separate_channels: bool
) -> Audio:
    """Return the audio of a complete spool, mixed into one channel or with its channels apart.

    `audio_format` is for raw samples and None for files; a WAV header in front of raw samples counts more. The result
    lies beside the spool until it is closed. Raises INVALID_ARGUMENT that names the spool's field for audio that
    cannot be accepted, RESOURCE_EXHAUSTED when the disk is full. Cancelling ends the work within a piece.
    """
    field = spool.field
    await spool.flush()
    if spool.size == 0:
        raise invalid(field, f"{field} is empty")
    stop = threading.Event()

    def proceed() -> None:
        if stop.is_set():
            raise _GivenUpError

    def work() -> Audio:
        with closing(_frames(spool.file, audio_format, field, limits, proceed)) as frames:
            return _stored(frames, ScratchFile(spool.directory), limits, field, separate=separate_channels)

    executor = ThreadPoolExecutor(1, "audio")
    try:
        return await run_to_end(work, executor, give_up=stop.set, dispose=Audio.close)
    finally:
        executor.shutdown(wait=False)


def _frames(
    file: ScratchFile, audio_format: AudioFormat | None, field: str, limits: AudioLimits, proceed: Callable[[], None]
) -> Generator[AudioFrame, None, None]:
    if audio_format is None or audio_format.encoding.has_header or is_wav(file.read(0, 12)):
        with MediaFile(file, field, limits, proceed) as media:
            yield from _grouped(media.frames())
        return
    raw = RawSamples(audio_format)
    for position in range(0, file.size, _PIECE_BYTES):
        proceed()
        if frame := raw.feed(file.read(position, _PIECE_BYTES)):
            yield frame
    if raw.unfinished:
        size = audio_format.encoding.sample_bytes * audio_format.channels
        message = (
            f"{field} ends with {raw.unfinished} of the {size} bytes of a sample of {audio_format.channels} channels"
        )
        raise invalid(field, message)


def _grouped(frames: Iterator[AudioFrame]) -> Iterator[AudioFrame]:
    """Yield about a second at a time: small frames cost more to hand over than to convert."""
    fifo, kind = AudioFifo(), None
    for frame in frames:
        frame.pts = None
        if kind not in (None, new := (frame.format.name, frame.layout.name, frame.sample_rate)):
            yield from _rest(fifo)
            fifo = AudioFifo()
        kind = new
        fifo.write(frame)
        if fifo.samples >= frame.sample_rate:
            yield from _rest(fifo)
    yield from _rest(fifo)


def _rest(fifo: AudioFifo) -> Iterator[AudioFrame]:
    if frame := fifo.read():
        yield frame


def _stored(
    frames: Iterator[AudioFrame], file: ScratchFile, limits: AudioLimits, field: str, *, separate: bool
) -> Audio:
    resampler, channels = Resampler(separate=separate), 0

    def store(samples: Samples) -> None:
        file.append(samples.tobytes())
        if file.size > limits.seconds * SAMPLE_RATE * 2 * channels:
            raise too_long(field, limits)

    try:
        for frame in frames:
            found = frame.layout.nb_channels if separate else 1
            if channels not in (0, found):
                raise invalid(field, f"{field} changes from {channels} to {found} channels; they cannot be kept apart")
            channels = found
            store(resampler.feed(frame))
        store(resampler.finish())
        return Audio(file, channels)
    except BaseException:
        file.close()
        raise
