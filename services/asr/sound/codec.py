"""A decoder of packets that come without a file."""

from av import AudioCodecContext, CodecContext


def open_decoder(codec: str, extradata: bytes) -> AudioCodecContext:
    """Return a decoder that uses one thread. Raises av.FFmpegError for extradata that is broken."""
    context = CodecContext.create(codec, "r")
    if not isinstance(context, AudioCodecContext):
        raise TypeError(f"{codec} is no audio codec")
    context.extradata = extradata
    context.thread_count = 1
    context.options = {"err_detect": "crccheck+explode"}
    context.open()
    return context
