"""Key files for gateways under test."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.gateway.access.key_file import Key, KeyFile, new_key, write


@dataclass
class Keys:
    """A key file that tests change."""

    path: Path
    keys: dict[str, Key] = field(default_factory=dict)

    def add(self, **scope: Any) -> str:
        """Put a key into the file and return it."""
        secret, identifier, digest = new_key()
        fields = {"id": identifier, "name": "test", "digest": digest, "created": datetime.now(UTC), **scope}
        self.keys[identifier] = Key.model_validate(fields)
        self._write()
        return secret

    def revoke(self, secret: str) -> None:
        """Take a key out of the file."""
        del self.keys[secret.split("_")[1]]
        self._write()

    def _write(self) -> None:
        write(self.path, KeyFile(keys=tuple(self.keys.values())))


def bearer(secret: str) -> dict[str, str]:
    """The header as OpenAI's clients send it."""
    return {"authorization": f"Bearer {secret}"}
