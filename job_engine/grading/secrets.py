"""Operator secrets by reference: credentials for private repositories."""

from __future__ import annotations

import posixpath
import stat
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import yaml
from pydantic import SecretStr, StringConstraints, ValidationError

from job_engine.errors import ConfigurationError, SubmissionError
from job_engine.grading.fields import StrictModel
from job_engine.grading.submission import GitSource


class GitSecret(StrictModel):
    """A credential, with the only host and path that it may be sent to."""

    host: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+:[0-9]{1,5}$")]
    """`host:port`."""
    path: Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f%]*$")] = "/"
    """Only for repositories below this path; by default for all on the host."""
    username: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]+$")]
    password: SecretStr
    plain_http: bool = False
    """Whether it may be sent unencrypted, over http."""


def git_secret(source: GitSource, file: Path | None) -> GitSecret | None:
    """Return the secret that `source` names, if it names one.

    Raises `SubmissionError` for an unknown name, and for a repository that the secret is not
    meant for: otherwise a submitter could have it sent to a host of their own, or read other
    repositories on its host. Raises `ConfigurationError` for a file that others may read, or
    that is invalid.
    """
    if source.credential is None:
        return None
    secret = load_secrets(file).get(source.credential) if file is not None else None
    if secret is None:
        raise SubmissionError(
            f"There is no credential named '{source.credential}'. Ask the operator to add it to "
            "the git_secrets_file."
        )
    host, port = source.address()
    if secret.host.lower() != f"{host}:{port}".lower():
        raise SubmissionError(f"The credential '{source.credential}' is not for {host}:{port}.")
    if not _lies_below(urlsplit(source.url).path, secret.path):
        raise SubmissionError(f"The credential '{source.credential}' is not for that repository.")
    if source.url.startswith("http:") and not secret.plain_http:
        raise SubmissionError(
            f"The credential '{source.credential}' is not sent over plain http. Use https."
        )
    return secret


def _lies_below(path: str, place: str) -> bool:
    """Return whether a URL's path is `place` or below it, for any server's interpretation."""
    place = place.rstrip("/")
    plain = "%" not in path and posixpath.normpath(path) == path.rstrip("/")
    return not place or (plain and f"{path}/".startswith(f"{place}/"))


def stdin_of(secret: GitSecret | None) -> bytes:
    """Return the clone phase's input, which git's credential helper reads.

    It repeats the answer, because git may ask more than once (a redirect, a second fetch).
    """
    if secret is None:
        return b""
    answer = f"username={secret.username}\npassword={secret.password.get_secret_value()}\n\n"
    return answer.encode() * 8


def load_secrets(file: Path) -> dict[str, GitSecret]:
    """Return the secrets in a file by name; raises `ConfigurationError`, see `git_secret`."""
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise ConfigurationError(f"{file} can be read by others. Run: chmod 600 {file}")
        value = yaml.safe_load(file.read_text())
        if not isinstance(value, dict):
            raise ConfigurationError(f"{file}: expected credentials by name.")
        return {str(name): GitSecret.model_validate(entry) for name, entry in value.items()}
    except (OSError, yaml.YAMLError, ValidationError) as error:
        # Without the content, which would end up in a log.
        raise ConfigurationError(
            f"The git_secrets_file {file} cannot be used: {type(error).__name__}."
        ) from None
