"""Settings of webhooks: where they may be sent."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from job_engine.settings.base import Settings


class PlainWebhooks(Settings):
    """Settings of webhooks that the API and executors share."""

    webhook_allow_http: bool = Field(
        False, description="Let webhooks go to http:// URLs, where anyone on the way can read them."
    )


class WebhookSettings(PlainWebhooks):
    """Where an executor sends webhooks, and how long it waits."""

    webhook_private_hosts: list[str] = Field(
        [],
        description="Private or loopback `host:port` that webhooks may go to; any other private "
        "or special address is refused.",
    )
    webhook_timeout_s: float = Field(
        10.0, gt=0, le=60, description="Seconds that a webhook's receiver gets to answer."
    )
    webhook_ca_file: Path | None = Field(
        None,
        description="PEM file of further authorities whose certificates webhooks' receivers may "
        "have.",
    )
