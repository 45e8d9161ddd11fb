"""Every resource type, by name. A further type is a class, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from job_engine.api.types.assignment import AssignmentType
from job_engine.api.types.base import ResourceType
from job_engine.api.types.blob import BlobType
from job_engine.api.types.credential import CredentialType
from job_engine.api.types.job import JobType
from job_engine.api.types.session import SessionType
from job_engine.api.types.templates import (
    CredentialTemplateType,
    SessionTemplateType,
    UserTemplateType,
)
from job_engine.api.types.user import UserType
from job_engine.api.types.webhook import WebhookDeliveryType, WebhookSecretType

TYPES: Final[tuple[type[ResourceType], ...]] = (
    AssignmentType,
    BlobType,
    CredentialTemplateType,
    CredentialType,
    JobType,
    SessionTemplateType,
    SessionType,
    UserTemplateType,
    UserType,
    WebhookDeliveryType,
    WebhookSecretType,
)


def make_registry() -> Mapping[str, ResourceType]:
    """Return an instance of every type."""
    return {kind.name: kind() for kind in TYPES}
