"""The images that come from a registry, or stand-ins made from the distribution's packages: the base, and Prometheus.

A stand-in is for machines that reach a package mirror and no image registry. It gets the certificates that this
machine was told to trust, so that builds work behind a proxy that signs anew; the Dockerfiles know nothing of it.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.cli.console import Problem
from tools.containers.command import output, quiet
from tools.containers.engine import install
from tools.model_preparation.progress import step

STAND_IN = "flotilla-stand-in:bookworm"
STAND_IN_PROMETHEUS = "flotilla-stand-in-prometheus:bookworm"
SUITE = "bookworm"
CERTIFICATES = Path("/usr/local/share/ca-certificates")
UNWANTED = ("doc", "man", "locale", "info")


def stand_in(*, may_install: bool) -> str:
    """Return the name of the stand-in image, which is built when it is not there."""
    return _image(STAND_IN, "the base image", 'CMD ["bash"]', may_install=may_install)


def stand_in_prometheus(*, may_install: bool) -> str:
    """Return the name of an image with the distribution's Prometheus that is started as the official one is.

    https://github.com/prometheus/prometheus/blob/main/Dockerfile
    """
    data = ('mkdir "$1/prometheus"', 'chown 65534:65534 "$1/prometheus"')
    changes = (
        'ENTRYPOINT ["/usr/bin/prometheus"]',
        'CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]',
        "USER 65534",
    )
    options = ("--include=prometheus", *(f"--customize-hook={line}" for line in data))
    return _image(STAND_IN_PROMETHEUS, "Prometheus", *changes, options=options, may_install=may_install)


def _image(name: str, what: str, *changes: str, options: Sequence[str] = (), may_install: bool) -> str:
    if not quiet("docker", "image", "inspect", name):
        if shutil.which("mmdebstrap") is None:
            if not may_install:
                raise Problem("a stand-in image takes mmdebstrap", "apt-get install mmdebstrap, or --start-engine")
            install("mmdebstrap")
        with step(f"Building a stand-in for {what}"), tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "root.tar"
            output("mmdebstrap", *_options(), *options, SUITE, str(archive))
            output("docker", "import", *(f"--change={change}" for change in changes), str(archive), name)
    return name


def _options() -> list[str]:
    options = ["--variant=minbase", "--include=ca-certificates"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNWANTED]
    certificates = [str(path) for path in sorted(CERTIFICATES.glob("*.crt"))]
    if certificates:
        options.append(f"--customize-hook=copy-in {' '.join(certificates)} {CERTIFICATES}")
        options.append('--customize-hook=chroot "$1" update-ca-certificates')
    options.append('--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/log/*')
    return options
