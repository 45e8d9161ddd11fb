"""The credentials with which a process logs in."""

from __future__ import annotations

import json

from job_engine.errors import ConfigurationError
from job_engine.settings import ConnectionSettings


def login_credentials(settings: ConnectionSettings) -> dict[str, str] | None:
    """Return `key` and `secret` for the API, or None to stay anonymous.

    Raises `ConfigurationError` for a credentials file that cannot be read.
    """
    if settings.api_key and settings.api_secret:
        return {"key": settings.api_key, "secret": settings.api_secret.get_secret_value()}
    if settings.credentials_file is None:
        return None
    try:
        found = json.loads(settings.credentials_file.read_text())
        return {"key": str(found["key"]), "secret": str(found["secret"])}
    except OSError as error:
        raise ConfigurationError(
            f"Cannot read the credentials file {settings.credentials_file}: {error.strerror}. "
            "The API's first start writes one for each service into `credentials/` of its data "
            "directory; `job-engine credential add --output FILE` makes more."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"The credentials file {settings.credentials_file} has to hold "
            '{"key": "credential/…", "secret": "…"}, and nothing else can be read in it.'
        ) from error


def replaced_credentials(settings: ConnectionSettings) -> dict[str, str] | None:
    """Like `login_credentials`, but return None while the file cannot be read."""
    try:
        return login_credentials(settings)
    except ConfigurationError:
        return None  # it is being replaced; the next refusal looks again
