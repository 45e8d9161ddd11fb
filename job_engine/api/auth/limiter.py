"""Limits on failed logins, against guessing secrets; kept in this process's memory.

Failures are counted three times: for an account from one address (a user mistypes), for an
account from all addresses (an attacker with many machines), and for an address over all accounts
(an attacker with many names). The last two limits are higher, because many users may share an
address, and because a stranger must not easily lock a user out.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final

from job_engine.addresses import network_of
from job_engine.api.errors import TooManyLoginsError

WINDOW_S: Final = 60.0
FAILURES: Final = 10
"""Failed logins of one account from one address that are answered within `WINDOW_S`."""
ACCOUNT_FAILURES: Final = 50
"""The same of one account, from all addresses together."""
ADDRESS_FAILURES: Final = 100
"""The same from one address, for all accounts together."""
_REMEMBERED: Final = 10_000
"""Keys remembered for each limit; those that failed longest ago are dropped first."""
_MAX_NAME: Final = 200
"""Characters of an account's name that are remembered; real names are shorter."""

_Key = tuple[str, str]


class LoginLimiter:
    """Counts failed logins; after too many, logins are refused without checking the secret."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._pairs = _Failures(FAILURES)
        self._accounts = _Failures(ACCOUNT_FAILURES)
        self._addresses = _Failures(ADDRESS_FAILURES)
        self._lock = threading.Lock()

    def check(self, account: str, address: str) -> None:
        """Raise `TooManyLoginsError` if there were too many failures lately."""
        now_s = self._monotonic_s()
        with self._lock:
            wait_s = max(
                failures.wait_s(key, now_s) for failures, key in self._counted(account, address)
            )
        if wait_s > 0:
            raise TooManyLoginsError(retry_after_s=math.ceil(wait_s))

    def failed(self, account: str, address: str) -> None:
        """Count a failure."""
        now_s = self._monotonic_s()
        with self._lock:
            for failures, key in self._counted(account, address):
                failures.add(key, now_s)

    def succeeded(self, account: str, address: str) -> None:
        """Forget the failures of this account from this address, and no others."""
        with self._lock:
            self._pairs.forget((account[:_MAX_NAME], network_of(address)))

    def _counted(self, account: str, address: str) -> Sequence[tuple[_Failures, _Key]]:
        name, address = account[:_MAX_NAME], network_of(address)
        return (
            (self._pairs, (name, address)),
            (self._accounts, (name, "")),
            (self._addresses, ("", address)),
        )


class _Failures:
    """The times of the last `allowed` failures of each key."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self._times: OrderedDict[_Key, deque[float]] = OrderedDict()

    def wait_s(self, key: _Key, now_s: float) -> float:
        """Return the seconds until a key may try again; 0: now."""
        times = self._times.get(key)
        if times is None or len(times) < self._allowed:
            return 0.0
        return max(0.0, times[0] + WINDOW_S - now_s)

    def add(self, key: _Key, now_s: float) -> None:
        """Count a failure."""
        self._times.setdefault(key, deque(maxlen=self._allowed)).append(now_s)
        self._times.move_to_end(key)
        while len(self._times) > _REMEMBERED:
            self._times.popitem(last=False)

    def forget(self, key: _Key) -> None:
        """Forget a key's failures."""
        self._times.pop(key, None)
