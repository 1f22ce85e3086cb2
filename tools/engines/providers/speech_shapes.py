"""The optimisation profiles of Whisper's two graphs: shapes of the loop over tokens, not those of a contract."""

from tools.engines.shapes import Profile, Range

MELS, FRAMES, AUDIO_POSITIONS, POSITIONS = 80, 3000, 1500, 448
WINDOWS, TUNED_WINDOWS, HYPOTHESES = 16, 4, 10
"""Windows of a batch as in config.pbtxt; hypotheses of a window as rows.py allows."""
CAPACITIES = (64, 128, 448)
"""The least, the tuned and the greatest of graph_recogniser.CAPACITIES."""
ANSWERS = 32


def encoder_profiles() -> tuple[Profile, ...]:
    """Return one profile: windows of 30 s, as Whisper was trained."""
    counts = (1, TUNED_WINDOWS, WINDOWS)
    return ({"mel": Range(*((count, MELS, FRAMES) for count in counts))},)


def decoder_profiles(layers: int, heads: int, width: int) -> tuple[Profile, ...]:
    """Return a profile of single tokens, for hypotheses too, and one of prompts and known texts."""
    step = _decoder((1, TUNED_WINDOWS, WINDOWS * HYPOTHESES), (1, 1, 1), (1, 1, 1), (layers, heads, width))
    prompt = _decoder((1, TUNED_WINDOWS, WINDOWS), (1, 4, POSITIONS), (1, 2, ANSWERS), (layers, heads, width))
    return step, prompt


def _decoder(
    rows: tuple[int, ...], steps: tuple[int, ...], answers: tuple[int, ...], sizes: tuple[int, int, int]
) -> Profile:
    layers, heads, width = sizes
    windows = (1, TUNED_WINDOWS, WINDOWS)
    shapes = {
        "tokens": zip(rows, steps, strict=True),
        "positions": ((count,) for count in steps),
        "wanted": ((count,) for count in answers),
        "parents": ((count,) for count in rows),
    }
    profile = {name: Range(*ends) for name, ends in shapes.items()}
    for layer in range(layers):
        profile[f"cross_key_{layer}"] = Range(*((count, heads, width, AUDIO_POSITIONS) for count in windows))
        profile[f"cross_value_{layer}"] = Range(*((count, heads, AUDIO_POSITIONS, width) for count in windows))
        past = Range(*((count, heads, room, width) for count, room in zip(rows, CAPACITIES, strict=True)))
        profile |= {f"past_{part}_{layer}": past for part in ("key", "value")}
    return profile
