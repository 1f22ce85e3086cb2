"""Decimal numbers between two bounds, as grammar. Numbers are scaled integers: 2.50 is 250 with two decimals."""

from services.llm.ebnf import NEVER, Chars, Node, Text, choice, sequence

DIGIT = Chars(((48, 57),))


def between(low: int, high: int, decimals: int = 0) -> Node:
    """Return the decimal notation of every integer from `low` to `high`, divided by ten to the power of `decimals`."""
    if low > high:
        return NEVER
    parts = []
    if high >= 0:
        parts.append(_from_zero(max(low, 0), high, decimals))
    if low < 0:
        parts.append(sequence(Text("-"), _from_zero(max(1, -high), -low, decimals)))
    return choice(parts)


def _from_zero(low: int, high: int, decimals: int) -> Node:
    parts = []
    for width in range(max(len(str(low)), decimals + 1), max(len(str(high)), decimals + 1) + 1):
        least = 0 if width == decimals + 1 else 10 ** (width - 1)  # a longer number has no leading zero
        first, last = max(low, least), min(high, 10**width - 1)
        if first <= last:
            parts.append(_of_width(str(first).zfill(width), str(last).zfill(width), decimals))
    return choice(parts)


def _of_width(low: str, high: str, decimals: int) -> Node:
    """Return the strings of digits from `low` to `high`, which are of one length, with a point where it belongs."""
    if low and len(low) == decimals:
        return sequence(Text("."), _of_width(low, high, 0))
    if not low:
        return Text("")
    first, last, rest = int(low[0]), int(high[0]), len(low) - 1
    if first == last:
        return sequence(Text(low[0]), _of_width(low[1:], high[1:], decimals))
    zeros, nines = "0" * rest, "9" * rest
    from_low, to_high = low[1:] != zeros, high[1:] != nines
    parts = []
    if from_low:
        parts.append(sequence(Text(low[0]), _of_width(low[1:], nines, decimals)))
    if first + from_low <= last - to_high:
        whole = Chars(((48 + first + from_low, 48 + last - to_high),))
        parts.append(sequence(whole, _of_width(zeros, nines, decimals)))
    if to_high:
        parts.append(sequence(Text(high[0]), _of_width(zeros, high[1:], decimals)))
    return choice(parts)
