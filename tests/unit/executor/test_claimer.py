"""Claims, and the API's answers about them, while the next are under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import pytest

from executor.board import Board
from executor.breaker import Breaker
from executor.claimer import Claimer
from executor.outcome import Disposal
from executor.prefetch import PROVEN
from executor.reporter import Reporter
from executor.skips import BrokenHere
from job_engine.client import Api
from job_engine.errors import ApiUnavailableError, QueueError
from job_engine.model import Answer
from job_engine.model.protocol.claims import ClaimReply, ClaimRequest
from job_engine.queue import ClaimQueue, QueueClaim, Registration, ZooKeeperSession
from tests.support.engine import eventually
from tests.unit.executor.support import claim_of, swift

THREADS = 4
REGISTRATION = Registration(1, "/executors/x-1", 1)


class Entries(ClaimQueue):
    """A queue of numbered entries; `fail_at` is the claim that gets no answer."""

    def __init__(self, count: int) -> None:
        self.left = list(range(count))
        self.fail_at: int | None = None
        self.claims = 0
        self.recovered: list[list[str]] = []
        self._woken = threading.Event()

    def register(self, about: Mapping[str, object]) -> Registration:
        return REGISTRATION

    def describe(self, registration: Registration, about: Mapping[str, object]) -> None:
        pass

    def claim(
        self, registration: Registration, limit: int, skip: Callable[[str], bool]
    ) -> list[QueueClaim]:
        self.claims += 1
        if self.claims == self.fail_at:
            raise QueueError("no answer")
        taken, self.left = self.left[:limit], self.left[limit:]
        return [claim_of(number) for number in taken]

    def consume(self, claims: Sequence[QueueClaim]) -> None:
        pass

    def release(self, claims: Sequence[QueueClaim]) -> None:
        pass

    def recover(self, registration: Registration, held: Sequence[QueueClaim]) -> None:
        self.recovered.append([claim.job_id for claim in held])

    def wait(self, timeout_s: float) -> None:
        self._woken.wait(min(timeout_s, 1.0))
        self._woken.clear()

    def stand_aside(self) -> None:
        pass

    def wake(self) -> None:
        self._woken.set()


class SmallApi:
    """Answers `run` to every claim, as soon as it may; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.down_from = 1_000
        """The request, counted from 1, from which on it does not answer."""

    @property
    def down(self) -> bool:
        """Whether it does not answer any more."""
        return len(self.asked) >= self.down_from

    def publish_actions(self, actions: Sequence[object]) -> None:
        """See `Api`."""

    def claim(self, request: ClaimRequest) -> list[ClaimReply]:
        """See `Api`."""
        self.asked.append([item.job for item in request.claims])
        self.may_answer.wait()
        if self.down:
            raise ApiUnavailableError("no answer")
        document = {"action": swift.name}
        return [ClaimReply(job=j, answer=Answer.RUN, document=document) for j in self.asked[-1]]


class AliveSession:
    """A session that lasts."""

    def wait_alive(self, timeout_s: float) -> bool:
        """See `ZooKeeperSession`."""
        return True


class LettingGo:
    """Notes the claims that are let go without a run, and takes them off the board."""

    def __init__(self, board: Board) -> None:
        self.broken_here = BrokenHere()
        self.released: list[str] = []
        self._board = board

    def let_go(self, claims: Sequence[QueueClaim], disposal: Disposal) -> None:
        """See `Reporter`."""
        self.released += [claim.job_id for claim in claims]
        self._board.let_go(claims)


class Parts:
    """A claimer and what is around it; `dispatched` are the jobs that it handed over."""

    def __init__(self, entries: int) -> None:
        self.queue = Entries(entries)
        self.api = SmallApi()
        self.board = Board(THREADS)
        self.reporter = LettingGo(self.board)
        self.breaker = Breaker(lambda: not self.api.down)
        self.dispatched: list[str] = []
        self.held_up_at: int | None = None
        """Jobs after which no more is handed over until `may_dispatch`."""
        self.may_dispatch = threading.Event()
        self.claimer = Claimer(
            session=cast(ZooKeeperSession, AliveSession()),
            queue=self.queue,
            api=cast(Api, self.api),
            board=self.board,
            breaker=self.breaker,
            reporter=cast(Reporter, self.reporter),
            name="executor-1",
            published=[cast(Any, swift)],
            about=dict,
            dispatch=self._dispatch,
            on_registered=lambda _registration: None,
        )

    def _dispatch(self, claim: QueueClaim, reply: ClaimReply, *, give_back: bool) -> None:
        if len(self.dispatched) == self.held_up_at:
            self.may_dispatch.wait()
        self.dispatched.append(claim.job_id)
        self.board.let_go([claim])


@pytest.fixture
def parts() -> Iterator[Parts]:
    """A claimer with a hundred short jobs waiting."""
    found = Parts(100)
    yield found
    found.api.may_answer.set()
    found.may_dispatch.set()
    found.claimer.stop(5)


def jobs(*numbers: int) -> list[str]:
    return [f"job/{number}" for number in numbers]


def test_all_jobs_are_handed_over_once_and_in_order(parts: Parts) -> None:
    parts.claimer.start()
    eventually(lambda: len(parts.dispatched) == 100)
    assert parts.dispatched == jobs(*range(100))


def test_the_api_is_asked_about_the_next_jobs_while_these_are_handed_over(parts: Parts) -> None:
    parts.held_up_at = PROVEN * THREADS
    parts.claimer.start()
    eventually(lambda: len(parts.api.asked) == PROVEN + 2)
    assert len(parts.dispatched) == parts.held_up_at


def test_jobs_asked_about_run_though_the_next_claim_gets_no_answer(parts: Parts) -> None:
    parts.queue.fail_at = PROVEN + 2
    parts.claimer.start()
    eventually(lambda: len(parts.dispatched) == 100)
    assert parts.dispatched == jobs(*range(100))
    # What was answered is settled by the time that claims without an answer are looked for.
    assert parts.queue.recovered == [[], []]


def test_where_the_api_stops_answering_all_claims_under_way_are_released(parts: Parts) -> None:
    parts.api.down_from = PROVEN + 1
    parts.claimer.start()
    eventually(lambda: parts.breaker.open and not parts.board.held(REGISTRATION))
    assert parts.dispatched == jobs(*range(PROVEN * THREADS))
    claimed = jobs(*range(100 - len(parts.queue.left)))
    assert [*parts.dispatched, *parts.reporter.released] == claimed


def test_claims_without_an_answer_are_let_go_when_it_stops(parts: Parts) -> None:
    parts.api.may_answer.clear()
    parts.claimer.start()
    eventually(lambda: bool(parts.api.asked))
    assert parts.board.held(REGISTRATION)
    parts.claimer.stop(0.1)
    assert not parts.board.held(REGISTRATION)
