import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[4]
MODULES = {"scikit-image": "skimage", "scikit-learn": "sklearn"}

BLOCKED = """
import sys
for name in {names!r}:
    sys.modules[name] = None
import tools.cli.__main__
"""


def test_the_command_starts_without_what_only_tests_and_checks_need():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {Requirement(text).name for name in ("test", "check") for text in extras[name]}
    served = {
        Requirement(text).name
        for name, texts in extras.items()
        if name not in ("test", "check") and not name.startswith(("export", "engines"))
        for text in texts
    }
    names = sorted(MODULES.get(name, name.replace("-", "_")) for name in wanted - served)
    assert "skimage" in names
    done = subprocess.run(
        [sys.executable, "-P", "-c", BLOCKED.format(names=names)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
