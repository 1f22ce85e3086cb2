"""TLS of both ports: a certificate, and optionally the authorities that callers' certificates must come from.

The files are read again when they change. New connections have the new ones; those that are open stay as they are.
"""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path

import grpc

from services.common.server import StartupError
from services.gateway.file_stamp import stamp_of
from services.gateway.settings import GatewaySettings

_log = logging.getLogger(__name__)

RELOAD_SECONDS = 1.0


class Tls:
    """The certificates in force."""

    def __init__(self, certificate: Path, key: Path, client_authorities: Path | None) -> None:
        """Read the files. Raises StartupError."""
        self._files = (certificate, key, *([client_authorities] if client_authorities else ()))
        self._mutual = client_authorities is not None
        self._fault: str | None = None
        try:
            self._stamp = stamp_of(*self._files)
            self._contents = _read(self._files)
            self._newest = _context(self._files)
        except (OSError, ValueError) as error:
            raise StartupError(f"cannot use the TLS files: {_said(error)}") from None
        self.context = _context(self._files)
        """For the HTTP port. Every handshake goes on with the newest."""
        self.context.sni_callback = self._use_newest

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return the credentials for the gRPC port, which ask for the newest at every handshake."""
        return grpc.dynamic_ssl_server_credentials(self._configuration(), self._configuration, self._mutual)

    async def follow(self) -> None:
        """Read the files again whenever they change, until cancelled. Unusable ones change nothing."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            await asyncio.to_thread(self._reload)

    def _reload(self) -> None:
        try:
            stamp = stamp_of(*self._files)
            if stamp == self._stamp:
                return
            contents, newest = _read(self._files), _context(self._files)
        except (OSError, ValueError) as error:
            if _said(error) != self._fault:
                _log.error("cannot use the changed TLS files: %s; those read before stay in force", _said(error))
            self._fault = _said(error)
            return
        self._stamp, self._contents, self._newest, self._fault = stamp, contents, newest, None
        _log.info("TLS files read again")

    def _use_newest(self, connection: ssl.SSLObject, *_: object) -> None:
        connection.context = self._newest

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, *authorities = self._contents
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities[0] if authorities else None)


def tls(settings: GatewaySettings) -> Tls | None:
    """Return the TLS that the settings ask for. Raises StartupError."""
    certificate, key, authorities = settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file
    if not (certificate or key or authorities):
        return None
    if not (certificate and key):
        raise StartupError("TLS needs both FLOTILLA_GATEWAY_TLS_CERTIFICATE_FILE and FLOTILLA_GATEWAY_TLS_KEY_FILE")
    return Tls(Path(certificate), Path(key), Path(authorities) if authorities else None)


def _context(files: Sequence[Path]) -> ssl.SSLContext:
    certificate, key, *authorities = files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key, password=_no_password)
    if authorities:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authorities[0])
        # A resumed session would not be asked for its certificate again, whoever is trusted by then.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no certificate with its key in PEM form ({error.reason})"
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)


def _read(files: Sequence[Path]) -> list[bytes]:
    return [file.read_bytes() for file in files]
