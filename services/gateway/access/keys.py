"""The keys in force: read from the key file, and again whenever it changes. A broken file changes nothing."""

import asyncio
import hmac
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from services.common.errors import Kind, ServiceError
from services.common.telemetry import Telemetry
from services.gateway.access.key_file import Key, KeyFileError, digest_of, id_of, read
from services.gateway.file_stamp import Stamp, stamp_of

_log = logging.getLogger(__name__)

RELOAD_SECONDS = 0.5
_NO_DIGEST = digest_of("")


class Keys:
    """Finds the key that a caller presents."""

    def __init__(self, path: Path, telemetry: Telemetry) -> None:
        """Read the file. Raises KeyFileError."""
        self._path = path
        self._stamp = _stamp(path)
        self._keys = _by_id(path)
        self.fault: str | None = None
        """Why the file as it is now is not in force; None when it is."""
        telemetry.gauge("flotilla_gateway_keys", "API keys in force.", lambda: len(self._keys))
        telemetry.gauge(
            "flotilla_gateway_keys_stale",
            "1 while the key file cannot be used and the keys read before stay in force.",
            lambda: float(self.fault is not None),
        )
        _log.info("%d API keys from %s", len(self._keys), path)

    def find(self, presented: str | None) -> Key:
        """Return the key that was presented. Raises UNAUTHENTICATED."""
        if not presented:
            message = "an API key is required: Authorization: Bearer <key>, or x-api-key: <key>"
            raise ServiceError(Kind.UNAUTHENTICATED, message, code="missing_api_key")
        key = self._keys.get(id_of(presented))
        # Compared in any case, so that the time taken does not tell which ids exist.
        genuine = hmac.compare_digest(digest_of(presented), key.digest if key else _NO_DIGEST)
        if key is None or not genuine:
            raise ServiceError(Kind.UNAUTHENTICATED, "the API key is not valid", code="invalid_api_key")
        if key.expires is not None and key.expires.timestamp() <= time.time():
            message = f"the API key has expired on {key.expires:%Y-%m-%d}"
            raise ServiceError(Kind.UNAUTHENTICATED, message, code="expired_api_key")
        return key

    async def follow(self) -> None:
        """Read the file again whenever it changes, until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            await asyncio.to_thread(self._reload)

    def _reload(self) -> None:
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp and self.fault is None:
                return
            keys = _by_id(self._path)
        except KeyFileError as error:
            if str(error) != self.fault:
                _log.error("%s; the keys read before stay in force", error)
            self.fault = str(error)
            return
        _log.info("%d API keys from %s", len(keys), self._path)
        self._stamp, self._keys, self.fault = stamp, keys, None


def _by_id(path: Path) -> Mapping[str, Key]:
    return {key.id: key for key in read(path).keys}


def _stamp(path: Path) -> Stamp:
    try:
        return stamp_of(path)
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {path}: {error.strerror}") from None
