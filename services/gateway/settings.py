"""Settings of the gateway: `FLOTILLA_GATEWAY_...`."""

from pydantic import Field, TypeAdapter, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.settings import CommonSettings, load
from services.gateway.remote_images import parse_hosts


class GatewaySettings(BaseSettings):
    """What the gateway is told from outside."""

    model_config = SettingsConfigDict(env_prefix="FLOTILLA_GATEWAY_", use_attribute_docstrings=True, extra="ignore")

    common: CommonSettings = Field(default_factory=lambda: load(CommonSettings))
    """The settings of the machine."""
    host: str = "127.0.0.1"
    """Address the three ports listen on."""
    http_port: int = Field(default=8000, ge=0, le=65535)
    """Port of the HTTP API; 0 takes a free one."""
    grpc_port: int = Field(default=8001, ge=0, le=65535)
    """Port of the gRPC API; 0 takes a free one."""
    metrics_port: int = Field(default=8002, ge=0, le=65535)
    """Port of health and metrics; 0 takes a free one."""
    llm_addresses: str = "127.0.0.1:50061"
    """Where the llm service listens: host:port, several with commas. A name stands for all its addresses.
    Empty: the service is not part of this fleet."""
    llm_hold_seconds: float = Field(default=0.0, ge=0, le=600)
    """How long a request may wait for an llm service that has no ready address (scale to zero)."""
    embedding_addresses: str = "127.0.0.1:50062"
    """Where the embedding service listens, as for llm."""
    embedding_hold_seconds: float = Field(default=0.0, ge=0, le=600)
    """As for llm."""
    asr_addresses: str = "127.0.0.1:50063"
    """Where the asr service listens, as for llm."""
    asr_hold_seconds: float = Field(default=0.0, ge=0, le=600)
    """As for llm."""
    vision_addresses: str = "127.0.0.1:50064"
    """Where the vision service listens, as for llm."""
    vision_hold_seconds: float = Field(default=0.0, ge=0, le=600)
    """As for llm."""
    metrics_addresses: str = ""
    """Where the metrics of services are, for the gateway's own /metrics: `embedding=host:port`, several with commas.
    Of a service that is not named: at its gRPC addresses that have its usual gRPC port, on its usual HTTP port."""
    scrape_timeout_seconds: float = Field(default=2.0, gt=0, le=30)
    """Longest time the reading of a service's metrics may take."""
    resolve_seconds: float = Field(default=5.0, gt=0)
    """How often names are resolved again."""
    body_limit_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """Largest HTTP request body."""
    body_timeout_seconds: float = Field(default=30.0, gt=0)
    """Longest time an HTTP request body may take to arrive."""
    request_timeout_seconds: float = Field(default=300.0, gt=0)
    """Deadline of an HTTP request that brings none in `x-flotilla-timeout-ms`."""
    audio_body_limit_bytes: int = Field(default=512 * 1024 * 1024, ge=1024)
    """Largest upload of audio; the rest of its form may have another MiB."""
    audio_body_timeout_seconds: float = Field(default=3600.0, gt=0)
    """Longest time an upload of audio may take, and never may it pause for longer than `body_timeout_seconds`."""
    audio_uploads_bytes: int = Field(default=4 * 1024 * 1024 * 1024, ge=1024)
    """Uploads of audio held at the same time, in bytes: they lie in temporary files until they are transcribed."""
    audio_timeout_seconds: float = Field(default=3600.0, gt=0)
    """Deadline of the transcription of an upload, as `request_timeout_seconds` for others."""
    keep_alive_seconds: int = Field(default=75, ge=1)
    """How long an idle HTTP connection stays open. Longer than the idle time-out of the proxy in front, if any."""
    max_message_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Largest gRPC message, in and out."""
    stream_keep_alive_seconds: float = Field(default=10.0, gt=0, le=600)
    """A stream of events that is silent for so long gets a comment, so that nobody on the way takes it for dead."""
    retry_budget: float = Field(default=0.1, ge=0, le=1)
    """Retries allowed per call made; 0 turns retries off."""

    image_url_hosts: str = ""
    """Hosts that images may be fetched from by URL, with commas: `host` (ports 80 and 443), `host:port`, `*.host` (its
    subdomains). Addresses that are not public are refused all the same. Empty: no URL is fetched."""
    image_url_timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    """Longest time the fetching of one image may take. All those of a request together may be as large as a body."""

    keys_file: str = ""
    """The key file of `flotilla keys`, or a secret mounted from one; read again when it changes. Empty: no keys."""
    allow_keyless: bool = False
    """Listen on an address that others reach and let everybody in: for a fleet behind something that asks for keys."""
    keyless_metrics: bool = False
    """Whether the metrics of the HTTP port need no key. Those of the metrics port never do."""
    keyless_documents: bool = False
    """Whether /docs, /openapi.json and gRPC reflection need no key."""

    tls_certificate_file: str = ""
    """Certificate chain in PEM form for the HTTP and the gRPC port; read again when it changes. Empty: no TLS."""
    tls_key_file: str = ""
    """The key of the certificate in PEM form, without a password."""
    tls_client_ca_file: str = ""
    """Authorities in PEM form that must have signed the certificate of every caller (mTLS). Empty: none needed."""
    cors_origins: str = ""
    """Origins whose pages may call from a browser, with commas: https://app.example.com. `*`: all. Empty: none."""
    trusted_proxies: str = ""
    """Addresses and networks, with commas, whose X-Forwarded-For and X-Forwarded-Proto are believed. Empty: none."""
    header_limit_bytes: int = Field(default=32 * 1024, ge=1024)
    """Largest request line and headers of an HTTP request."""
    header_limit_count: int = Field(default=100, ge=10)
    """Most headers of an HTTP request."""
    header_timeout_seconds: float = Field(default=20.0, gt=0)
    """Longest time the headers of an HTTP request may take, and a new connection may be silent."""
    send_timeout_seconds: float = Field(default=60.0, gt=0)
    """Longest time an HTTP client may leave what is sent to it unread before its connection is cut."""

    @field_validator("allow_keyless", mode="before")
    @classmethod
    def _decided(cls, value: object) -> object:
        try:
            return TypeAdapter(bool).validate_python(value)
        except ValidationError:
            raise ValueError(
                "published on that address, everybody who reaches it would be let in; decide: "
                "FLOTILLA_GATEWAY_ALLOW_KEYLESS=true, or =false with FLOTILLA_GATEWAY_KEYS_FILE (flotilla keys create)"
            ) from None

    @field_validator("image_url_hosts")
    @classmethod
    def _hosts(cls, value: str) -> str:
        parse_hosts(value)
        return value

    @field_validator("metrics_addresses")
    @classmethod
    def _metrics(cls, value: str) -> str:
        for entry in value.split(",") if value.strip() else ():
            name, _, place = entry.strip().partition("=")
            host, _, port = place.rpartition(":")
            if f"{name}_addresses" not in cls.model_fields or name == "metrics" or not host or not port.isdigit():
                raise ValueError(f"{entry.strip()!r} is not service=host:port")
        return value

    @field_validator("llm_addresses", "embedding_addresses", "asr_addresses", "vision_addresses")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in value.split(",") if value.strip() else ():
            host, _, port = address.strip().rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"{address.strip()!r} is not host:port")
        return value
