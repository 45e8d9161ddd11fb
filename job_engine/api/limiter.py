"""A brake on guessing passwords: per account and address, in this process's memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from job_engine.api.errors import TooManyLoginsError

FAILURES: Final = 10
"""Failed logins of one account from one address that are answered within `WINDOW_S`."""
WINDOW_S: Final = 60.0
_REMEMBERED: Final = 10_000


_MAX_NAME: Final = 200
"""Characters of an account that are remembered; nobody's name is longer."""


class LoginLimiter:
    """Counts failures; too many of them are refused before the password is looked at."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._failures: OrderedDict[tuple[str, str], list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, account: str, address: str) -> None:
        """Raise `TooManyLoginsError` while there were too many failures."""
        with self._lock:
            if len(self._recent((account[:_MAX_NAME], address))) >= FAILURES:
                raise TooManyLoginsError

    def failed(self, account: str, address: str) -> None:
        """Count a failure."""
        with self._lock:
            key = (account[:_MAX_NAME], address)
            self._failures[key] = [*self._recent(key), self._monotonic_s()]
            self._failures.move_to_end(key)
            while len(self._failures) > _REMEMBERED:
                self._failures.popitem(last=False)

    def succeeded(self, account: str, address: str) -> None:
        """Forget the failures."""
        with self._lock:
            self._failures.pop((account[:_MAX_NAME], address), None)

    def _recent(self, key: tuple[str, str]) -> list[float]:
        since = self._monotonic_s() - WINDOW_S
        return [at for at in self._failures.get(key, []) if at > since]
