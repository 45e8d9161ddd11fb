"""The page's way to verify a message, tried on messages as they are really signed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job_engine.store.jobs.outbox import RETRY
from job_engine.webhooks import new_secret, signed_headers

PAGE = Path(__file__).parents[3] / "docs" / "webhooks.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BODY = '{"type": "job.success"}'

Verify = Callable[[str, dict[str, str], bytes], None]


@pytest.fixture
def verify() -> Verify:
    """The function as it stands on the page."""
    names: dict[str, Any] = {}
    (text,) = [block for block in BLOCK.findall(PAGE.read_text()) if "def verify" in block]
    exec(compile(text, str(PAGE), "exec"), names)
    found: Verify = names["verify"]
    return found


def test_it_believes_what_the_engine_signs(verify: Verify) -> None:
    secret = new_secret()
    headers = signed_headers(secret, "an-id", int(time.time()), BODY)
    verify(secret, headers, BODY.encode())
    several = {**headers, "webhook-signature": f"v1,AAAA {headers['webhook-signature']} v2,x"}
    verify(secret, several, BODY.encode())


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "another"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-timestamp": str(int(time.time()) - 3600)},
        {"webhook-timestamp": str(int(time.time()) + 3600)},
    ],
)
def test_it_believes_nothing_else(verify: Verify, change: dict[str, str]) -> None:
    secret = new_secret()
    headers = signed_headers(secret, "an-id", int(time.time()), BODY)
    with pytest.raises(ValueError, match=r"too old|not signed"):
        verify(secret, {**headers, **change}, BODY.encode())


def test_it_believes_no_other_body_and_no_other_secret(verify: Verify) -> None:
    secret = new_secret()
    headers = signed_headers(secret, "an-id", int(time.time()), BODY)
    for key, body in ((secret, b"{}"), (new_secret(), BODY.encode())):
        with pytest.raises(ValueError, match="not signed"):
            verify(key, headers, body)


def test_the_page_says_how_often_and_how_long() -> None:
    text = PAGE.read_text()
    assert f"{RETRY.max_attempts} times in all" in text
    assert f"after {RETRY.backoff_s:g} s" in text
    hours = sum(RETRY.delay_s(n) for n in range(1, RETRY.max_attempts)) / 3600
    assert 18 <= hours <= 30  # about a day
