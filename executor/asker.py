"""The asker: asks the API about claims.

A batch that is followed by another is asked about in a thread of its own, while the claimer hands
the previous batch to the workers. A single job takes the shorter way, in the claimer's thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from job_engine.client import Api
from job_engine.errors import ApiUnavailableError
from job_engine.model import SUPPORTED_VERSION
from job_engine.model.protocol.claims import ClaimItem, ClaimReply, ClaimRequest
from job_engine.queue import QueueClaim, Registration

Answered = Callable[[], list[ClaimReply]]
"""Waits for the API's replies, one for each claim.

Raises `ApiError`, `ApiUnavailableError`, or `concurrent.futures.CancelledError` if the claims
were withdrawn before the API was asked.
"""


class Asker:
    """Asks the API whether claimed jobs are to be run here.

    Args:
        api: the API.
        name: this executor's name.
        actions: the names of the actions that it can run.
        may_ask: returns whether claims of a registration are still worth asking about, when
            their turn comes.
    """

    def __init__(
        self,
        api: Api,
        name: str,
        actions: Sequence[str],
        may_ask: Callable[[Registration], bool],
    ) -> None:
        self._api = api
        self._name = name
        self._actions = list(actions)
        self._may_ask = may_ask
        self._lock = threading.Lock()
        self._unanswered: dict[int, QueueClaim] = {}
        self._inbox: queue.SimpleQueue[tuple[list[QueueClaim], Future[list[ClaimReply]]]]
        self._inbox = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="asker", daemon=True)

    def start(self) -> None:
        """Start the thread that `ask_soon` needs."""
        self._thread.start()

    def unanswered(self) -> list[QueueClaim]:
        """Return the claims that the API is being asked about; for any thread."""
        with self._lock:
            return list(self._unanswered.values())

    def ask(self, claims: list[QueueClaim]) -> list[ClaimReply]:
        """Ask, and wait for the replies, in this thread. Raises as `Answered` does."""
        self._note(claims)
        return self._send(claims)

    def ask_soon(self, claims: list[QueueClaim]) -> Answered:
        """Ask in the thread of its own, one request after the other."""
        answer: Future[list[ClaimReply]] = Future()
        self._note(claims)
        self._inbox.put((claims, answer))
        return answer.result

    def _loop(self) -> None:
        while True:
            self._turn()

    def _turn(self) -> None:
        claims, answer = self._inbox.get()
        try:
            if self._may_ask(claims[0].registration):
                answer.set_result(self._send(claims))
            else:
                self._withdraw(claims, answer)
        except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
            if isinstance(error, ApiUnavailableError):
                # It was tried for as long as claims may be held without an answer.
                self._withdraw_queued()
            answer.set_exception(error)

    def _withdraw_queued(self) -> None:
        while not self._inbox.empty():
            self._withdraw(*self._inbox.get())

    def _withdraw(self, claims: list[QueueClaim], answer: Future[list[ClaimReply]]) -> None:
        self._forget(claims)
        answer.cancel()

    def _note(self, claims: list[QueueClaim]) -> None:
        with self._lock:
            self._unanswered.update((id(claim), claim) for claim in claims)

    def _forget(self, claims: list[QueueClaim]) -> None:
        with self._lock:
            for claim in claims:
                self._unanswered.pop(id(claim), None)

    def _send(self, claims: list[QueueClaim]) -> list[ClaimReply]:
        request = ClaimRequest(
            executor=self._name,
            actions=self._actions,
            job_version=SUPPORTED_VERSION,
            claims=[ClaimItem(job=c.job_id, entry=c.entry, fence=c.fence) for c in claims],
        )
        try:
            return self._api.claim(request)
        finally:
            self._forget(claims)
