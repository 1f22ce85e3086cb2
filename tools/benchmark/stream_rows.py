"""The rows and goals that come of streams measured in turn, round after round."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tools.benchmark.goals import Goal
from tools.benchmark.streams import Flow
from tools.benchmark.targets import ENGINE, LLAMACPP, STACK

NOTHING = float("nan")


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One target with prompts of one length at one number of streams, over all rounds. Times in milliseconds."""

    target: str
    prompt_tokens: int
    """0: it varies."""
    streams: int
    rate: float
    """Tokens a second of all streams together: the median over the rounds."""
    ratio: float
    """Of the engine alone: the median over the rounds, each held against the engine in the same round."""
    first_token: float
    """Median."""
    gap: float
    """From a token to the next, the mean of each stream: the median over the streams."""
    generator_cores: float
    errors: int
    first_error: str


@dataclass(frozen=True, slots=True)
class CacheRow:
    """Time to the first token in milliseconds, median, where the beginning of a long prompt is new, and known."""

    target: str
    cold: float
    known: float
    errors: int

    @property
    def ratio(self) -> float:
        """How many times faster it is when known."""
        return self.cold / self.known


def stream_rows(flows: Mapping[str, Sequence[Flow]], base: str, prompt_tokens: int, streams: int) -> list[StreamRow]:
    """Return a row for every target. The flows of a target are one for each round."""
    return [
        StreamRow(
            target,
            prompt_tokens,
            streams,
            rate=_median(flow.rate for flow in measured),
            ratio=_median(
                one.rate / other.rate for one, other in zip(measured, flows[base], strict=True) if other.rate
            ),
            first_token=1e3 * _median(seconds for flow in measured for seconds in flow.first_token),
            gap=1e3 * _median(seconds for flow in measured for seconds in flow.gaps),
            generator_cores=_median(flow.generator_cores for flow in measured),
            errors=sum(len(flow.answers) - len(flow.good) for flow in measured),
            first_error=next((answer.error for flow in measured for answer in flow.answers if answer.error), ""),
        )
        for target, measured in flows.items()
    ]


def cache_row(target: str, cold: Sequence[Flow], known: Sequence[Flow]) -> CacheRow:
    """Return the row of a target."""
    return CacheRow(
        target,
        cold=1e3 * _median(seconds for flow in cold for seconds in flow.first_token),
        known=1e3 * _median(seconds for flow in known for seconds in flow.first_token),
        errors=sum(len(flow.answers) - len(flow.good) for flow in (*cold, *known)),
    )


def goals(rows: Iterable[StreamRow], first_token: Iterable[StreamRow], caches: Iterable[CacheRow]) -> list[Goal]:
    """Return the goals that the rows say something about."""
    found = {(row.target, row.prompt_tokens, row.streams): row for row in rows}
    first = {row.target: row.first_token for row in first_token}
    reached: list[Goal] = []
    for (target, length, streams), row in found.items():
        peer = found.get((LLAMACPP, length, streams))
        where = f"{streams} stream{'s' if streams > 1 else ''}, prompts of {length} tokens"
        if target == STACK and streams in (8, 16):
            reached.append(Goal(f"tokens/s of the engine alone, {where}", 0.9, row.ratio))
            if peer is not None:
                reached.append(Goal(f"tokens/s of llama.cpp, {where}", 1.4, row.rate / peer.rate))
        elif target == STACK and streams == 1 and peer is not None:
            reached.append(Goal(f"decoding speed of llama.cpp, {where}", 0.6, peer.gap / row.gap))
    if STACK in first:
        reached.append(
            Goal("ms added to the time to the first token", 10.0, first[STACK] - first[ENGINE], at_most=True)
        )
    reached += [
        Goal("times faster to the first token with a known prefix", 3.0, row.ratio)
        for row in caches
        if row.target == STACK
    ]
    return reached


def _median(values: Iterable[float]) -> float:
    return statistics.median([*values] or [NOTHING])
