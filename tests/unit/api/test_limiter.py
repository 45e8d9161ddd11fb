"""The brake on guessing: what counts, for how long, and what is told."""

from __future__ import annotations

import pytest

from job_engine.api.auth.limiter import (
    ACCOUNT_FAILURES,
    ADDRESS_FAILURES,
    FAILURES,
    WINDOW_S,
    LoginLimiter,
)
from job_engine.api.errors import TooManyLoginsError


class Time:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    """A clock that stands still."""
    return Time()


@pytest.fixture
def limiter(time: Time) -> LoginLimiter:
    """A limiter on that clock."""
    return LoginLimiter(time)


def refused_for_s(limiter: LoginLimiter, account: str, address: str) -> float:
    """How long an account is refused from an address; 0: it is not."""
    try:
        limiter.check(account, address)
    except TooManyLoginsError as error:
        return error.retry_after_s or -1.0
    return 0.0


def test_one_account_from_one_address(limiter: LoginLimiter, time: Time) -> None:
    for _ in range(FAILURES):
        assert refused_for_s(limiter, "jane", "10.0.0.1") == 0
        limiter.failed("jane", "10.0.0.1")
        time.now_s += 1
    assert refused_for_s(limiter, "jane", "10.0.0.1") == WINDOW_S - FAILURES
    assert refused_for_s(limiter, "jane", "10.0.0.2") == 0
    assert refused_for_s(limiter, "joe", "10.0.0.1") == 0
    time.now_s += WINDOW_S - FAILURES
    assert refused_for_s(limiter, "jane", "10.0.0.1") == 0


def test_one_account_from_many_addresses(limiter: LoginLimiter) -> None:
    for n in range(ACCOUNT_FAILURES):
        assert refused_for_s(limiter, "jane", "10.0.0.1") == 0
        limiter.failed("jane", f"10.0.1.{n}")
    assert refused_for_s(limiter, "jane", "10.0.0.1") == WINDOW_S
    assert refused_for_s(limiter, "joe", "10.0.0.1") == 0


def test_many_accounts_from_one_address(limiter: LoginLimiter) -> None:
    for n in range(ADDRESS_FAILURES):
        assert refused_for_s(limiter, "jane", "10.0.0.1") == 0
        limiter.failed(f"user-{n}", "10.0.0.1")
    assert refused_for_s(limiter, "jane", "10.0.0.1") == WINDOW_S
    assert refused_for_s(limiter, "jane", "10.0.0.2") == 0


def test_a_success_forgets_slips_but_not_a_search(limiter: LoginLimiter) -> None:
    """Whoever has one account could otherwise go on to guess others' for ever."""
    for n in range(ADDRESS_FAILURES):
        limiter.failed("jane" if n < FAILURES else f"user-{n}", "10.0.0.1")
    limiter.succeeded("jane", "10.0.0.1")
    assert refused_for_s(limiter, "joe", "10.0.0.1") == WINDOW_S
    limiter = LoginLimiter(Time())
    for _ in range(FAILURES):
        limiter.failed("jane", "10.0.0.1")
    limiter.succeeded("jane", "10.0.0.1")
    assert refused_for_s(limiter, "jane", "10.0.0.1") == 0


def test_long_names_count_as_one(limiter: LoginLimiter) -> None:
    """They would fill the memory, one failure at a time."""
    for n in range(FAILURES):
        limiter.failed("x" * 1000 + str(n), "10.0.0.1")
    assert refused_for_s(limiter, "x" * 2000, "10.0.0.1") > 0


def test_a_network_of_ipv6_counts_as_one_address(limiter: LoginLimiter) -> None:
    for n in range(FAILURES):
        limiter.failed("jane", f"2001:db8:1:2::{n}")
    assert refused_for_s(limiter, "jane", "2001:db8:1:2:ffff::1") > 0
    assert refused_for_s(limiter, "jane", "2001:db8:1:3::1") == 0
