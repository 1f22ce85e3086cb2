"""`python -m services.common.models_ready SERVICE`: waits until the model store has every model of a service.

For the container that runs before a service where another one fills the store meanwhile.
"""

import argparse
import signal
import sys
import time

from services.common.manifest import Manifest, ManifestError, load_manifest
from services.common.model_store import ModelStore, ModelStoreError
from services.common.ports import GATEWAY, SERVICES
from services.common.settings import CommonSettings, load

POLL_SECONDS = 2.0


def main() -> int:
    """Return 0 once the models are there, 2 when the manifest cannot be used."""
    parser = argparse.ArgumentParser(prog="services.common.models_ready", description=__doc__)
    parser.add_argument("service", choices=[service.name for service in SERVICES if service is not GATEWAY])
    service: str = parser.parse_args().service
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # process 1 has no default for it
    settings = load(CommonSettings)
    try:
        manifest = load_manifest(settings.model_manifest)
    except ManifestError as error:
        print(error, file=sys.stderr)
        return 2
    store, said = ModelStore(settings.model_store), ""
    while missing := first_missing(manifest, store, service):
        if missing != said:
            print(f"waiting: {missing}", flush=True)
            said = missing
        time.sleep(POLL_SECONDS)
    print(f"every model of {service} is in {store.root}")
    return 0


def first_missing(manifest: Manifest, store: ModelStore, service: str) -> str:
    """Return what is missing first of the models of a service, in one line; empty when nothing is."""
    try:
        for model in manifest.for_service(service):
            store.require(model.id, model.required_artifacts)
    except ModelStoreError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    sys.exit(main())
