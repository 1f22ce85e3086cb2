"""Writes the requirements of extras of pyproject.toml as files for pip: to install, to install alone, versions.

The project itself is not among them: images carry its code as files. Needs nothing but Python.
"""

import argparse
import re
import tomllib
from pathlib import Path

ALONE = {"nvidia-pytriton", "nvidia-riva-client"}
"""Packages whose own dependencies are left out: the server in one, the messages in the other need none."""
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def main() -> None:
    """Write requirements.txt, alone.txt and constraints.txt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder with pyproject.toml and constraints.txt")
    parser.add_argument("target", type=Path, help="folder to write to")
    parser.add_argument("--without", action="append", default=[], help="a package that the image brings itself")
    parser.add_argument("extras", nargs="+")
    arguments = parser.parse_args()
    without = {normal(name) for name in arguments.without}
    project = tomllib.loads((arguments.source / "pyproject.toml").read_text())["project"]
    wanted = [text for text in requirements(project, arguments.extras) if normal(text) not in without]
    pinned = [
        line
        for line in (arguments.source / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#") and normal(line) not in without
    ]
    arguments.target.mkdir(parents=True, exist_ok=True)
    write(arguments.target / "requirements.txt", [text for text in wanted if normal(text) not in ALONE])
    write(arguments.target / "alone.txt", [text for text in wanted if normal(text) in ALONE])
    write(arguments.target / "constraints.txt", pinned)


def requirements(project: dict, extras: list[str]) -> list[str]:
    """Return the requirements of the project with these extras, each once; extras may name extras."""
    own, found, waiting = normal(project["name"]), dict.fromkeys(project["dependencies"]), list(extras)
    seen: set[str] = set()
    while waiting:
        extra = waiting.pop(0)
        if extra in seen:
            continue
        seen.add(extra)
        for text in project["optional-dependencies"][extra]:
            if normal(text) == own:
                waiting += re.findall(r"[A-Za-z0-9_-]+", text.partition("[")[2])
            else:
                found[text] = None
    return list(found)


def normal(text: str) -> str:
    """Return the normalised name that a requirement or a pin begins with."""
    match = _NAME.match(text)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def write(path: Path, lines: list[str]) -> None:
    """Write lines to a file."""
    path.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
