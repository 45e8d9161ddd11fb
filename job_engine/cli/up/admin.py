"""The first login: a password for `admin`, printed once, and a key for the local commands."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass

from nuvla.api.api import NuvlaError

from job_engine.cli.local_engine import LocalEngine, save_secret
from job_engine.client import Api
from job_engine.errors import ApiError

ADMIN = "admin"
API_KEY_TEMPLATE = "credential-template/generate-api-key"


@dataclass(frozen=True)
class FirstPassword:
    """The password of `admin` for the API's first start."""

    value: str
    chosen_here: bool
    """Whether it was generated, and so has to be printed; otherwise the operator set it."""


def first_password(engine: LocalEngine, given: str | None) -> FirstPassword | None:
    """Return the password to create `admin` with; None: it exists already.

    The password is kept in a file until the set-up is complete, so that an interrupted start
    does not lock the operator out.
    """
    if engine.credentials_file(ADMIN).exists():
        return None
    if given:
        return FirstPassword(given, chosen_here=False)
    pending = engine.credentials_file("admin-password")
    if not pending.exists():
        save_secret(pending, {"password": secrets.token_urlsafe(15)})
    return FirstPassword(str(json.loads(pending.read_text())["password"]), chosen_here=True)


def keep_key(engine: LocalEngine, api_url: str, password: FirstPassword) -> None:
    """Log in as `admin`, and store an API key for the other commands.

    Raises `ApiError` when the API does not know this password.
    """
    api = Api(api_url)
    try:
        save_secret(engine.credentials_file(ADMIN), make_key(api, ADMIN, password.value))
    finally:
        api.close()
    engine.credentials_file("admin-password").unlink(missing_ok=True)


def make_key(api: Api, user: str, password: str) -> dict[str, str]:
    """Log in with a password and return a new API key as `key` and `secret`."""
    try:
        reply = api.login_password(user, password)
        if reply is None or reply.status_code != 201:
            raise ApiError(f"The API refused the password of {user}.")
        made = api.add(
            "credential",
            {"name": f"command line of {user}", "template": {"href": API_KEY_TEMPLATE}},
        )
    except NuvlaError as error:
        raise ApiError(f"The API gave no key to {user}: {error.reason}") from error
    return {"key": made.data["resource-id"], "secret": made.data["secret-key"]}
