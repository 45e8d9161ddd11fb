"""Settings of the API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints

from job_engine.settings.webhooks import PlainWebhooks

Origin = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.\[\]:-]+$")]
"""An origin as browsers send it: without a path or a final slash; `*` is not allowed."""


class ApiSettings(PlainWebhooks):
    """Settings of the API."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8020, ge=0, le=65_535, description="Port to listen on; 0: a free one.")
    data_dir: Path = Field(
        Path("job-engine-data"), description="Directory of everything that has to last."
    )
    database_url: str | None = Field(
        None,
        description="Where the store is: `postgresql://USER@HOST/NAME` (its password in a "
        "`~/.pgpass`), or a SQLite file; unset: one in `data_dir`.",
    )
    blob_dir: Path | None = Field(
        None, description="Directory of uploaded files; unset: `blobs` in `data_dir`."
    )
    credentials_dir: Path | None = Field(
        None,
        description="Where the first start writes `executor.json` and `distributor.json`, the "
        "API keys of the other services; unset: `credentials` in `data_dir`.",
    )
    admin_password: SecretStr | None = Field(
        None,
        description="Password of the user `admin` that the first start makes; unset: one is "
        "generated, and printed once.",
    )
    max_blob_bytes: int = Field(256 * 2**20, gt=0, description="Largest upload, in bytes.")
    blob_quota_bytes: int = Field(
        64 * 2**30, gt=0, description="Bytes that all uploads of one owner may take."
    )
    max_body_bytes: int = Field(
        16 * 2**20, gt=0, description="Largest request that is no upload, unpacked, in bytes."
    )
    session_s: float = Field(
        7 * 86_400.0, gt=0, description="Seconds after which a session has to log in again."
    )
    trusted_peers: list[str] = Field(
        [],
        description="Addresses and networks (`10.1.0.0/16`) whose `nuvla-authn-info` and "
        "`X-Forwarded-For` headers are believed, such as that of a reverse proxy that "
        "authenticates; empty: none. Such a proxy has to remove `nuvla-authn-info` from the "
        "requests that it receives.",
    )
    metrics_peers: list[str] = Field(
        [],
        description="Addresses and networks (`10.1.0.0/16`) that may read `/api/metrics` without "
        "a login, such as that of Prometheus; empty: admins only.",
    )
    cors_origins: list[Origin] = Field(
        [],
        description="Origins (`https://lms.example.org`) whose pages may use the API from "
        "browsers, with the session of their user; empty: only the API's own origin.",
    )
    audit_s: float = Field(
        30 * 86_400.0, gt=0, description="Seconds that lines of the audit trail are kept."
    )
    rate_per_s: float = Field(
        1000.0,
        ge=0,
        description="Requests a second that each user may send in the long run; more are "
        "answered 429. Admins and the engine's services have no limit. 0: no limit.",
    )
    rate_burst: int = Field(
        5000, ge=1, description="Requests that each user may send at once, after a rest."
    )
    anonymous_rate_per_s: float = Field(
        100.0,
        ge=0,
        description="Requests a second from each address that did not log in; 0: no limit.",
    )
    anonymous_rate_burst: int = Field(
        1000, ge=1, description="Requests at once from an address that did not log in."
    )

    @property
    def store_url(self) -> str:
        """The database URL, with its default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'store.sqlite'}"

    @property
    def blobs(self) -> Path:
        """The directory of uploaded files, with its default filled in."""
        return self.blob_dir or self.data_dir / "blobs"

    @property
    def credentials(self) -> Path:
        """The directory of the services' keys, with its default filled in."""
        return self.credentials_dir or self.data_dir / "credentials"
