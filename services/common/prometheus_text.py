"""Prometheus text of several processes as one: https://prometheus.io/docs/instrumenting/exposition_formats/.

A page may describe a family once and must keep its samples together.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?([ \t]+[^ \t{}]+(?:[ \t]+-?[0-9]+)?)[ \t]*")


@dataclass(slots=True)
class _Family:
    help: str = ""
    type: str = ""
    samples: list[str] = field(default_factory=list)


def merged(*texts: str) -> str:
    """Return one page with the samples of all `texts`. A family has the help and type that come first.

    Samples of a family that has another type elsewhere, and lines that are no samples, are left out.
    """
    families: dict[str, _Family] = {}
    for text in texts:
        _read(text, families)
    lines = (line for family in families.values() for line in (family.help, family.type, *family.samples) if line)
    return "".join(f"{line}\n" for line in lines)


def labelled(text: str, labels: Mapping[str, str]) -> str:
    """Return `text` with `labels` put before those of every sample."""
    added = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())

    def add(line: str) -> str:
        found = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if found is None:
            return line
        name, own, value = found.groups()
        return f"{name}{{{added},{own}}}{value}" if own else f"{name}{{{added}}}{value}"

    return "".join(f"{add(line)}\n" for line in text.splitlines())


def _read(text: str, families: dict[str, _Family]) -> None:
    family = _Family()
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            name = line.split(maxsplit=3)[2] if line.count(" ") > 1 else ""
            family = families.setdefault(name, _Family())
            if line.startswith("# HELP "):
                family.help = family.help or line
            elif not family.type:
                family.type = line
            elif family.type.split() != line.split():
                family = _Family(type=line)  # collects what nobody will see
        elif found := _SAMPLE.fullmatch(line):
            (family if family.type else families.setdefault(found[1], _Family())).samples.append(line)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
