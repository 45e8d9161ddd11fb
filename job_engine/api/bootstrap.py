"""Bootstrap: creates the user `admin` and the other services' keys at the first start.

There is no default password. A generated one is returned, so that the server can print it
once; it is never logged.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from job_engine.api.auth.secrets import generate_key
from job_engine.api.identity import DISTRIBUTOR, EXECUTOR
from job_engine.api.services import Services
from job_engine.api.types.credential import key_resource
from job_engine.api.types.group import BUILT_IN, group_document
from job_engine.api.types.user import (
    MAX_PASSWORD,
    MIN_PASSWORD,
    check_password,
    user_resource,
)
from job_engine.errors import ConfigurationError, ConflictError, InvalidResourceError
from job_engine.log import get_logger
from job_engine.model.acl import ADMIN, ANON
from job_engine.store.resources import Resource
from job_engine.store.tables import resources

log = get_logger(__name__)

ADMIN_NAME: Final = "admin"
_SERVICES: Final = {
    "executor": ("service/job-executor", EXECUTOR),
    "distributor": ("service/job-distributor", DISTRIBUTOR),
}


def bootstrap(services: Services) -> str | None:
    """Create what is missing; return the admin's password if one was generated now."""
    _make_groups(services)
    for name, (identity, role) in _SERVICES.items():
        _make_key(services, services.settings.credentials / f"{name}.json", identity, role)
    # Last, because a generated password would be lost if a later step failed.
    return _make_admin(services)


def _make_admin(services: Services) -> str | None:
    if services.store.resources.find("user", ADMIN_NAME) is not None:
        return None
    given = services.settings.admin_password
    password = secrets.token_urlsafe(15) if given is None else given.get_secret_value()
    try:
        check_password(password)
    except InvalidResourceError:
        # An empty variable is easily set by mistake, and must not become an empty password.
        raise ConfigurationError(
            f"JOB_ENGINE_ADMIN_PASSWORD has to have {MIN_PASSWORD} to {MAX_PASSWORD} characters."
        ) from None
    user = user_resource(ADMIN_NAME, services.passwords.hash(password), [ADMIN])
    try:
        services.store.resources.add(user)
    except ConflictError:  # another process has created it at the same time
        return None
    log.info("admin.created", user=user.id)
    return password if given is None else None


def _make_groups(services: Services) -> None:
    known = {group.id for group in services.store.resources.where(resources.c.type == "group")}
    for group, description in BUILT_IN.items():
        if group not in known:
            document = {**group_document(group), "description": description}
            with suppress(ConflictError):  # as above
                services.store.resources.add(Resource(document))


def _make_key(services: Services, file: Path, identity: str, role: str) -> None:
    """Write a key to `file`, unless it has one that this store knows."""
    roles = [identity, role, ANON]
    known = _known(services, file)
    if known is not None:
        _limit_key(services, known, roles)
        return
    secret = generate_key()
    digest = services.keys.hash(secret)
    resource = key_resource(identity=identity, roles=roles, digest=digest)
    services.store.resources.add(resource)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A name of its own: another process may start at the same time.
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as stream:
        json.dump({"key": resource.id, "secret": secret}, stream)
    os.replace(unfinished, file)
    log.info("credential.written", file=file, role=role)


def _known(services: Services, file: Path) -> Resource | None:
    try:
        key = json.loads(file.read_text())["key"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return next(iter(services.store.resources.where(resources.c.id == str(key))), None)


def _limit_key(services: Services, key: Resource, roles: list[str]) -> None:
    """Remove the rights of a user from a service's key, which earlier releases gave it."""
    claims = {**key.document["claims"], "roles": roles}
    if key.document["claims"] != claims:
        services.store.resources.edit(
            key.id, lambda found: replace(found, document={**found.document, "claims": claims})
        )
