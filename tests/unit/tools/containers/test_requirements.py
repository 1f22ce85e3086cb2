"""What goes into an image, from the extras of pyproject.toml."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = ROOT / "containers" / "packages" / "requirements.py"


def written(tmp_path: Path, *arguments: str) -> dict[str, list[str]]:
    subprocess.run([sys.executable, SCRIPT, ROOT, tmp_path, *arguments], check=True)
    return {path.stem: path.read_text().splitlines() for path in tmp_path.iterdir()}


def test_extras_that_name_extras_are_followed(tmp_path):
    files = written(tmp_path, "--", "embedding")
    assert {"onnxruntime", "tokenizers", "uvicorn", "grpcio>=1.81", "protobuf>=6.33,<7"} <= set(files["requirements"])
    assert not any(line.startswith("flotilla") for line in files["requirements"])
    assert files["alone"] == ["nvidia-pytriton"]


def test_serving_images_get_no_torch(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in ("llm", "embedding", "asr", "vision", "gateway"):
        assert extra in project["optional-dependencies"]
        files = written(tmp_path, "--", extra)
        assert not {"torch", "transformers"} & {line.split(">")[0] for line in files["requirements"]}


def test_what_an_image_brings_itself_is_neither_wanted_nor_pinned(tmp_path):
    files = written(tmp_path, "--without", "nvidia-pytriton", "--without", "numpy", "--", "vision")
    assert not any(line.startswith("numpy") for line in files["requirements"] + files["constraints"])
    assert files["alone"] == []
