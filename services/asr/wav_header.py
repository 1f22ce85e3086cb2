"""The header of a WAV file that comes in pieces, in front of live audio."""


def is_wav(head: bytes) -> bool:
    """Whether data that begins with these 12 bytes is a WAV file."""
    return head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"
