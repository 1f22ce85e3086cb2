"""Takes out of an environment what serving never uses: tests, parts for other machines, debug symbols.

Needs Python, `strip` and `ldd`. Prints what it freed.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ANYWHERE = (
    *("tests", "test", "testing", "__pycache__"),
    *("*.pyi", "*.pyx", "*.pxd", "*.h", "*.hpp", "*.c", "*.cc", "*.cpp", "*.proto", "*.a", "*.lib"),
    "*.dist-info/RECORD",
)
"""Names that go wherever they are, KEPT excepted. Tests of packages, caches, what compilers and installers need."""
KEPT = ("numpy/testing",)
"""What packages import at run time all the same."""
NAMED = (
    "openvino/libs/*intel_gpu_plugin*",  # engines for GPUs and NPUs that Triton does not serve on
    "openvino/libs/*intel_npu_*",
    "openvino/libs/cache.json",  # kernels of the GPU plugin
    "openvino/libs/*_frontend.so*",  # readers of formats that are converted beforehand; IR is put back below
    "openvino/include",
    "openvino/cmake",
    "openvino/tools",
    "openvino_genai/include",
    "openvino_genai/cmake",
    "cv2/data",  # cascades of the old face detectors
    "PIL/_avif.*",  # a format that is not served
    "PIL/_imagingtk.*",
    "pillow.libs/libavif*",
    "numpy/distutils",
    "numpy/f2py",
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/datasets",
    "onnxruntime/capi/libonnxruntime.so*",  # for C programs; Python has its own
    "numpy/array_api",
    "numpy/doc",
    "numpy/_pyinstaller",
    "ctranslate2/converters",
    "hf_xet*",  # a downloader
    "pytriton/tritonserver/caches",
    "google/protobuf/compiler",
    "pydantic/v1",  # the old version, for those who use both; what looks for it does without
)
IR_FRONTEND = "openvino/libs/*_ir_frontend.so*"
STUBS = "pytriton/tritonserver/python_backend_stubs"
TRITON_LIBRARIES = "nvidia_pytriton.libs"
UNICODE_TABLES, UNICODE_SYMBOL = "libicudata-*", "icudt70_dat"
_LIBRARY = re.compile(r"=> (\S+)")


def main(environment: Path) -> None:
    """Trim the environment."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    before = size(packages)
    for pattern in NAMED:
        for path in packages.glob(pattern):
            if not path.match(IR_FRONTEND):
                remove(path)
    for pattern in ANYWHERE:
        for path in sorted(packages.rglob(pattern)):
            if path.relative_to(packages).as_posix() not in KEPT:
                remove(path)
    if (packages / STUBS).is_dir():
        trim_triton(packages)
    for path in packages.rglob("*.so*"):
        if path.is_file() and not path.is_symlink():
            # Where a packager's patch is in the way, strip leaves the file as it was.
            subprocess.run(["strip", "--strip-unneeded", str(path)], check=False, stderr=subprocess.DEVNULL)
    print(f"{packages}: {before / 1e6:.0f} MB, now {size(packages) / 1e6:.0f} MB")


def trim_triton(packages: Path) -> None:
    """Leave the stub of this Python, and of the libraries those that the server, the backend or the stub load."""
    ours = packages / STUBS / f"{sys.version_info.major}.{sys.version_info.minor}"
    for stub in (packages / STUBS).iterdir():
        if stub != ours:
            remove(stub)
    server = packages / "pytriton" / "tritonserver"
    folder = packages / TRITON_LIBRARIES
    programs = [path for path in server.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    needed = {name for program in programs for name in loaded(program, folder)}
    for library in folder.iterdir():
        if library.name not in needed:
            remove(library)
    for program in programs:
        subprocess.run(["strip", "--strip-unneeded", str(program)], check=True)
    for tables in folder.glob(UNICODE_TABLES):
        empty_tables(tables)


def empty_tables(library: Path) -> None:
    """Put ICU's tables (30 MB) back without content, as ICU's own stub of them: what asks gets an error.

    Nobody asks: they come with a library that reads XML for cloud storage.
    """
    source = f".globl {UNICODE_SYMBOL}\n.type {UNICODE_SYMBOL}, @object\n.data\n{UNICODE_SYMBOL}: .zero 64\n"
    source += f".size {UNICODE_SYMBOL}, 64\n"
    compiled = library.with_suffix(".o")
    subprocess.run(["as", "-o", str(compiled)], input=source.encode(), check=True)
    command = ["ld", "-shared", "-z", "noexecstack", "-soname", library.name, "-o", str(library), str(compiled)]
    subprocess.run(command, check=True)
    compiled.unlink()


def loaded(program: Path, folder: Path) -> set[str]:
    """Return the names of the files in a folder that the loader takes for a program."""
    said = subprocess.run(
        ["ldd", str(program)], env={"LD_LIBRARY_PATH": str(folder)}, capture_output=True, text=True, check=True
    ).stdout
    paths = [Path(match) for match in _LIBRARY.findall(said)]
    return {path.name for path in paths if path.parent.resolve() == folder.resolve()}


def remove(path: Path) -> None:
    """Delete a file or a folder that may be gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def size(folder: Path) -> int:
    """Return the bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
