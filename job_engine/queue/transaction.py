"""ZooKeeper transactions in which every result is checked.

kazoo returns the exceptions of a failed transaction as results, and its context manager
ignores them, so nothing outside this module uses kazoo's transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError, RolledBackError, RuntimeInconsistency
from kazoo.protocol.serialization import CheckVersion, Create, Delete
from kazoo.security import ACL, OPEN_ACL_UNSAFE

from job_engine.errors import (
    LeadershipLostError,
    QueueError,
    QueueRefusedError,
    SessionLostError,
)
from job_engine.queue.session import ZK_ERRORS


class answered:  # noqa: N801 - reads as a word in `with answered():`
    """A context manager that turns kazoo's errors for a missing answer into `QueueError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NoAuthError):
            raise QueueRefusedError from error
        if isinstance(error, ZK_ERRORS):
            raise QueueError(f"No answer from ZooKeeper: {error!r}") from error


_ANY: Final = -1
"""Any version of a node."""
_EPHEMERAL: Final = 1
_SEQUENCE: Final = 2
"""Flags of a create."""
GUARD: Final = 0
"""Index of the operation that checks the guarding node."""


@dataclass(frozen=True)
class Outcome:
    """The result of a transaction: all operations were done, or `failed` prevented it."""

    results: tuple[Any, ...]
    failed: int | None = None
    """Index of the operation that failed; None: all were done."""
    error: Exception | None = None

    @property
    def done(self) -> bool:
        """True when all operations were done."""
        return self.failed is None

    def unless_lost(self, lost: type[SessionLostError] | type[LeadershipLostError]) -> Self:
        """Return the outcome; raise `lost` if the guard's node was gone."""
        if self.failed == GUARD:
            raise lost
        return self


class Transaction:
    """Operations that are done together or not at all, guarded by a node that must exist."""

    def __init__(self, client: KazooClient, guard: str) -> None:
        """`guard` is the path of the session's (or leader's) own node: operation 0."""
        self._request = client.transaction()
        # Filled directly: kazoo's own methods check each path and log each operation, which
        # takes a tenth of a claim's time.
        self._operations: list[Any] = self._request.operations
        self._chroot: str = client.chroot
        self._acl: Sequence[ACL] = client.default_acl or OPEN_ACL_UNSAFE
        self.check(guard)

    def check(self, path: str) -> None:
        """Require that a node exists. Paths are absolute, and in normal form."""
        self._operations.append(CheckVersion(self._chroot + path, _ANY))

    def create(
        self, path: str, data: bytes, *, ephemeral: bool = False, sequence: bool = False
    ) -> None:
        """Create a node, which must not exist yet (unless it is sequential)."""
        flags = ephemeral * _EPHEMERAL | sequence * _SEQUENCE
        self._operations.append(Create(self._chroot + path, data, self._acl, flags))

    def delete(self, path: str) -> None:
        """Delete a node, which must exist."""
        self._operations.append(Delete(self._chroot + path, _ANY))

    def send(self) -> Pending:
        """Send it once, without waiting for the answer."""
        return Pending(self._request.commit_async())

    def commit(self) -> Outcome:
        """Send it once. Raises `QueueError` without an answer: then it may have happened."""
        return self.send().outcome()


class Pending:
    """A transaction that was sent."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def outcome(self) -> Outcome:
        """Wait for the answer. Raises `QueueError` without one: then it may have happened."""
        try:
            results = tuple(self._result.get())
        except ZK_ERRORS as error:
            raise QueueError(f"No answer from ZooKeeper to a transaction: {error!r}") from error
        for index, result in enumerate(results):
            if isinstance(result, NoAuthError):
                raise QueueRefusedError from result
            if isinstance(result, Exception) and not isinstance(
                result, RolledBackError | RuntimeInconsistency
            ):
                return Outcome(results, index, result)
        return Outcome(results)
