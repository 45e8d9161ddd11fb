"""The circuit breaker, and what it calls the reason it opened for."""

from __future__ import annotations

import logging

import pytest
import requests

from executor.breaker import Breaker
from job_engine.client.refusals import RefusedError
from job_engine.errors import ApiError, ApiUnavailableError


@pytest.mark.parametrize(
    ("error", "event", "level"),
    [
        (ApiUnavailableError("no route to host"), "api.unreachable", logging.WARNING),
        (RefusedError("credentials required", requests.Response()), "api.refused", logging.ERROR),
    ],
)
def test_it_opens_once_and_names_the_reason(
    error: ApiError, event: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [False, True]
    breaker = Breaker(lambda: answers.pop(0))
    breaker.trip(error)
    breaker.trip(ApiUnavailableError())
    assert [(record.getMessage(), record.levelno) for record in caplog.records] == [(event, level)]
    assert not breaker.try_to_close()
    assert breaker.open
    assert breaker.try_to_close()
    assert not breaker.open
