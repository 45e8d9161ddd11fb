"""Claims, and the API's answers about them, while the next are under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
import requests

from executor.board import Board
from executor.breaker import Breaker
from executor.claimer import Claimer
from executor.outcome import Disposal
from executor.prefetch import PROVEN
from executor.reporter import Reporter
from executor.skips import BrokenHere
from job_engine.client import Api, RefusedError
from job_engine.errors import ApiUnavailableError, QueueError
from job_engine.model import Answer
from job_engine.model.ahead import LEAST_AHEAD
from job_engine.model.protocol.claims import ClaimReply, ClaimRequest
from job_engine.queue import ClaimQueue, QueueClaim, Registration, ZooKeeperSession
from tests.support.engine import eventually
from tests.unit.executor.support import claim_of, swift

THREADS = 4
ONE = Registration(1, "/executors/x-1", 1)
SHORT_BY_NOW = PROVEN * THREADS
"""Jobs after which the executor claims ahead, since all of them were short."""


class Entries(ClaimQueue):
    """A queue of numbered entries, in which released ones are at the head again.

    `fail_at` is the claim, counted from 1, that gets no answer.
    """

    def __init__(self, count: int) -> None:
        self.left = list(range(count))
        self.fail_at: int | None = None
        self.claims = 0
        self.registered = 0
        self.recovered: list[list[str]] = []
        self._woken = threading.Event()

    def register(self, about: Mapping[str, object]) -> Registration:
        self.registered += 1
        return Registration(1, "/executors/x-1", self.registered)

    def describe(self, registration: Registration, about: Mapping[str, object]) -> None:
        pass

    def claim(
        self, registration: Registration, limit: int, skip: Callable[[str], bool]
    ) -> list[QueueClaim]:
        self.claims += 1
        if self.claims == self.fail_at:
            raise QueueError("no answer")
        free = [number for number in sorted(self.left) if not skip(claim_of(number).entry)]
        self.left = [number for number in self.left if number not in free[:limit]]
        return [replace(claim_of(n), registration=registration) for n in free[:limit]]

    def consume(self, claims: Sequence[QueueClaim]) -> None:
        pass

    def release(self, claims: Sequence[QueueClaim]) -> None:
        self.left += [int(claim.job_id.removeprefix("job/")) for claim in claims]

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
    """Answers `run` to every claim, or what `word` says; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.published = 0
        self.word: Callable[[], Answer] = lambda: Answer.RUN
        self.silent_from = 1_000
        """The request, counted from 1, from which on it does not answer."""
        self.refuses_from = 1_000
        """The request from which on it refuses this executor."""
        self.held_up_at = 1_000
        """The request that it answers only once it `may_answer`."""
        self.may_answer = threading.Event()

    @property
    def down(self) -> bool:
        """Whether it does not answer any more."""
        return len(self.asked) >= self.silent_from

    def publish_actions(self, actions: Sequence[object]) -> None:
        """See `Api`."""
        self.published += 1

    def claim(self, request: ClaimRequest) -> list[ClaimReply]:
        """See `Api`."""
        asked = [item.job for item in request.claims]
        self.asked.append(asked)
        if len(self.asked) == self.held_up_at:
            self.may_answer.wait()
        if self.down:
            raise ApiUnavailableError("no answer")
        if len(self.asked) >= self.refuses_from:
            answer = requests.Response()
            answer.status_code = 403
            raise RefusedError("The API refused (403): no credentials", answer)
        document = {"action": swift.name}
        return [ClaimReply(job=job, answer=self.word(), document=document) for job in asked]


class OneSession:
    """A session that lasts until it is `lost`."""

    lost = False

    def wait_alive(self, timeout_s: float) -> bool:
        """See `ZooKeeperSession`."""
        return True

    def holds(self, session_id: int) -> bool:
        """See `ZooKeeperSession`."""
        return not self.lost


class LettingGo:
    """Notes the claims that are let go without a run, releases them, takes them off the board."""

    def __init__(self, board: Board, queue: Entries) -> None:
        self.broken_here = BrokenHere()
        self.released: list[str] = []
        self._board = board
        self._queue = queue

    def let_go(self, claims: Sequence[QueueClaim], disposal: Disposal) -> None:
        """See `Reporter`."""
        self.released += [claim.job_id for claim in claims]
        self._queue.release(claims)
        self._board.let_go(claims)


class Parts:
    """A claimer and what is around it; `dispatched` are the jobs that it handed over."""

    def __init__(self, entries: int) -> None:
        self.queue = Entries(entries)
        self.api = SmallApi()
        self.board = Board(THREADS)
        self.reporter = LettingGo(self.board, self.queue)
        self.session = OneSession()
        self.breaker = Breaker(lambda: not self.api.down)
        self.dispatched: list[str] = []
        self.held_up_after: int | None = None
        """Jobs after which no more is handed over until `may_dispatch`."""
        self.may_dispatch = threading.Event()
        self.claimer = Claimer(
            session=cast(ZooKeeperSession, self.session),
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

    def queued(self) -> set[str]:
        """The jobs whose batch waits for its turn while the API holds up a request."""
        if len(self.api.asked) < self.api.held_up_at:
            return set()
        return {c.job_id for c in self.claimer._asker.unanswered()} - set(self.api.asked[-1])

    def _dispatch(self, claim: QueueClaim, reply: ClaimReply, *, give_back: bool) -> None:
        if len(self.dispatched) == self.held_up_after:
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
    parts.held_up_after = SHORT_BY_NOW
    parts.claimer.start()
    eventually(lambda: len(parts.api.asked) == PROVEN + 2)
    assert len(parts.dispatched) == SHORT_BY_NOW


def test_jobs_asked_about_run_though_the_next_claim_gets_no_answer(parts: Parts) -> None:
    parts.queue.fail_at = PROVEN + 2
    parts.claimer.start()
    eventually(lambda: len(parts.dispatched) == 100)
    assert parts.dispatched == jobs(*range(100))
    # What was answered is settled by the time that claims without an answer are looked for.
    assert parts.queue.recovered == [[], []]


def test_where_the_api_stops_answering_no_queued_request_tries_again(parts: Parts) -> None:
    parts.api.silent_from = parts.api.held_up_at = PROVEN + 1
    parts.claimer.start()
    eventually(lambda: bool(parts.queued()))
    parts.api.may_answer.set()
    eventually(lambda: parts.breaker.open and not parts.board.held(ONE))
    assert parts.dispatched == jobs(*range(SHORT_BY_NOW))
    assert len(parts.api.asked) == PROVEN + 1
    assert sorted(parts.queue.left) == list(range(SHORT_BY_NOW, 100))


def test_where_the_api_refuses_this_executor_nothing_is_claimed_before_it_publishes_again(
    parts: Parts,
) -> None:
    parts.api.refuses_from = PROVEN + 1
    parts.claimer.start()
    eventually(lambda: parts.api.published > 3)
    # One batch, and the one that was claimed while the first was asked about.
    assert parts.queue.claims <= PROVEN + 2 * parts.api.published


def test_after_a_stale_answer_nothing_is_claimed_under_the_same_registration(
    parts: Parts,
) -> None:
    parts.api.word = lambda: (
        Answer.STALE
        if len(parts.api.asked) > PROVEN and parts.queue.registered == 1
        else Answer.RUN
    )
    parts.claimer.start()
    eventually(lambda: parts.queue.registered == 2)
    assert len(parts.reporter.released) < 100 - SHORT_BY_NOW
    eventually(lambda: len(parts.dispatched) == 100)


def test_a_batch_that_is_left_to_others_ends_nothing(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts.claimer, "_run_elsewhere", lambda: frozenset({swift.name}))
    failed_here = jobs(*range(SHORT_BY_NOW, SHORT_BY_NOW + LEAST_AHEAD // 2))
    for job in failed_here:
        parts.reporter.broken_here.add(job, swift.name, 0.0)
    parts.claimer.start()
    eventually(lambda: len(parts.dispatched) == 100 - len(failed_here))
    assert set(parts.reporter.released) == set(failed_here)


@pytest.mark.parametrize("over", ["stopped", "lost"])
def test_a_batch_whose_turn_comes_too_late_is_released_unasked(parts: Parts, over: str) -> None:
    parts.api.held_up_at = PROVEN + 1
    parts.claimer.start()
    eventually(lambda: bool(parts.queued()))
    queued = parts.queued()
    if over == "stopped":
        parts.claimer.stop(0.1)
        assert not parts.board.held(ONE)
    else:
        parts.session.lost = True
    parts.api.may_answer.set()
    eventually(lambda: queued <= set(parts.reporter.released))
    asked = {job for batch in parts.api.asked[: PROVEN + 1] for job in batch}
    assert queued.isdisjoint(asked)
    if over == "stopped":
        assert len(parts.api.asked) == PROVEN + 1


def test_claims_without_an_answer_are_let_go_when_it_stops(parts: Parts) -> None:
    parts.api.held_up_at = 1
    parts.claimer.start()
    eventually(lambda: bool(parts.api.asked))
    assert parts.board.held(ONE)
    parts.claimer.stop(0.1)
    assert not parts.board.held(ONE)
