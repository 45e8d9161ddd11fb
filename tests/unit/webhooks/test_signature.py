"""Signatures, held against the specification's own example and against a second reading of it."""

from __future__ import annotations

import base64

from job_engine.webhooks import new_secret, signed_headers
from job_engine.webhooks.signature import sign
from tests.support.receiver import Received

BODY = '{"test": 2432232314}'


def test_the_example_that_implementations_share() -> None:
    """The one by which libraries of Standard Webhooks test themselves."""
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        BODY,
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_of_its_own_believes_it() -> None:
    secret = new_secret()
    headers = signed_headers(secret, "an-id", 1_700_000_000, '{"a": "é"}')
    message = Received("/", headers, '{"a": "é"}'.encode())
    assert message.signed_with(secret)
    assert not message.signed_with(new_secret())
    assert not Received("/", headers, b'{"a": "e"}').signed_with(secret)
    for name, value in (("webhook-id", "another"), ("webhook-timestamp", "1700000001")):
        assert not Received("/", {**headers, name: value}, message.raw).signed_with(secret)


def test_secrets_are_long_and_never_the_same() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) == 32
