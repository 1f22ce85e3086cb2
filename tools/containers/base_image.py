"""The image everything stands on: the one of the settings, or a stand-in made from the distribution's packages.

The stand-in is for machines that reach a package mirror and no image registry. It gets the certificates that this
machine was told to trust, so that builds work behind a proxy that signs anew; the Dockerfiles know nothing of it.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.cli.console import Problem
from tools.containers.command import output, quiet
from tools.containers.engine import install
from tools.model_preparation.progress import step

STAND_IN = "flotilla-stand-in:bookworm"
SUITE = "bookworm"
CERTIFICATES = Path("/usr/local/share/ca-certificates")
UNWANTED = ("doc", "man", "locale", "info")


def stand_in(*, may_install: bool) -> str:
    """Return the name of the stand-in image, which is built when it is not there."""
    if not quiet("docker", "image", "inspect", STAND_IN):
        if shutil.which("mmdebstrap") is None:
            if not may_install:
                raise Problem("the stand-in base takes mmdebstrap", "apt-get install mmdebstrap, or --start-engine")
            install("mmdebstrap")
        with step("Building a stand-in for the base image"), tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "root.tar"
            output("mmdebstrap", *_options(), SUITE, str(archive))
            subprocess.run(
                ["docker", "import", "--change", 'CMD ["bash"]', str(archive), STAND_IN],
                stdout=subprocess.DEVNULL,
                check=True,
            )
    return STAND_IN


def _options() -> list[str]:
    options = ["--variant=minbase", "--include=ca-certificates"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNWANTED]
    certificates = [str(path) for path in sorted(CERTIFICATES.glob("*.crt"))]
    if certificates:
        options.append(f"--customize-hook=copy-in {' '.join(certificates)} {CERTIFICATES}")
        options.append('--customize-hook=chroot "$1" update-ca-certificates')
    options.append('--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/log/*')
    return options
