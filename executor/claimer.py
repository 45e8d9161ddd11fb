"""The thread that claims entries and hands their jobs to the workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Final, Protocol

from executor.asker import Answered, Asker
from executor.board import Board
from executor.breaker import Breaker
from executor.outcome import Disposal
from executor.prefetch import Prefetch
from executor.reporter import Reporter
from executor.skips import Skips
from job_engine.client import Api, unwelcome
from job_engine.errors import (
    ApiError,
    ApiUnavailableError,
    QueueError,
    QueueRefusedError,
    SessionLostError,
)
from job_engine.log import get_logger
from job_engine.model import Answer
from job_engine.model.protocol.actions import ActionDescription
from job_engine.model.protocol.claims import ClaimReply
from job_engine.queue import ClaimQueue, QueueClaim, Registration, ZooKeeperSession
from job_engine.queue.fleet import list_executors
from job_engine.queue.paths import BATCH

log = get_logger(__name__)

REFUSED_S: Final = 5.0
"""Wait after ZooKeeper or the API refused this process; an operator has to fix that."""

PAUSE_S: Final = 0.5
"""Wait after ZooKeeper or the API gave no answer."""


class Dispatch(Protocol):
    """Takes a claimed job that the API answered `run` or `resume` for."""

    def __call__(self, claim: QueueClaim, reply: ClaimReply, *, give_back: bool) -> None:
        """Run the job; with `give_back`, report it as QUEUED again without running it."""


class Claimer:
    """Registers this executor, claims an entry for each free thread, asks the API about it.

    Args:
        published: the actions to publish to the API before anything is claimed.
        about: returns what this executor publishes about itself in its ZooKeeper node.
        dispatch: runs a job, or gives it back.
        on_registered: called after each registration.
    """

    def __init__(
        self,
        *,
        session: ZooKeeperSession,
        queue: ClaimQueue,
        api: Api,
        board: Board,
        breaker: Breaker,
        reporter: Reporter,
        name: str,
        published: Sequence[ActionDescription],
        about: Callable[[], dict[str, object]],
        dispatch: Dispatch,
        on_registered: Callable[[Registration], None],
    ) -> None:
        self._session = session
        self._queue = queue
        self._api = api
        self._board = board
        self._breaker = breaker
        self._reporter = reporter
        self._name = name
        self._published = published
        self._actions = [action.name for action in published]
        self._about = about
        self._dispatch = dispatch
        self._on_registered = on_registered
        self._skips = Skips()
        self._prefetch = Prefetch(board, {action.name for action in published if action.short})
        self._registration: Registration | None = None
        self._more = False
        """Whether the last claim got as many entries as it asked for: there may be more."""
        self._outdated = threading.Event()
        self._asker = Asker(api, name, self._actions, self._may_ask)
        self._known_to_api = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="claimer", daemon=True)

    def start(self) -> None:
        """Start claiming."""
        self._asker.start()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop claiming; wait up to `timeout_s` for a claim in progress."""
        self._stopping.set()
        self._queue.wake()
        self._thread.join(timeout_s)
        self._queue.stand_aside()
        # Claims that the API has not answered for end with the session; do not wait for them.
        self._board.let_go(self._asker.unanswered())
        if self._registration is not None:
            try:
                self._queue.describe(self._registration, self._about())
            except QueueError:
                return  # only what others read about this executor is out of date

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self._pass()
            except SessionLostError:
                self._start_over()
            except QueueRefusedError as error:
                self._start_over()
                log.error("queue.refused", error=error.message)
                self._stopping.wait(REFUSED_S)
            except QueueError as error:
                # The claim may exist although its reply was lost: list before claiming again.
                self._start_over()
                log.info("queue.unanswered", error=error.message)
                self._stopping.wait(PAUSE_S)
            except Exception:
                self._start_over()
                log.exception("claimer.failed")
                self._stopping.wait(PAUSE_S)

    def _start_over(self) -> None:
        """Register again, which deletes claims that may have been made without an answer."""
        self._registration = None

    def _pass(self) -> None:
        if not self._ready():
            self._queue.stand_aside()
            self._stopping.wait(PAUSE_S)
            return
        if not self._has_room():
            self._queue.stand_aside()
            return
        registration = self._registered()
        if registration is not None:
            self._settle_in_turn(registration, self._claim(registration))

    def _has_room(self) -> bool:
        return self._prefetch.wait_room(PAUSE_S) > 0 and not self._stopping.is_set()

    def _claim(self, registration: Registration) -> list[QueueClaim]:
        """Claim what is at the head of the queue, or wait until it is time to look again."""
        room = self._prefetch.wait_room(0)
        if room < 1:
            return []
        # Read before claiming: a back-off that ends during the claim still counted for it.
        due_in_s = self._skips.next_s()
        claims = self._take(registration, room)
        # Claiming clears an earlier wake-up, and `stop` wakes only once.
        if not claims and not self._stopping.is_set() and not self._outdated.is_set():
            self._queue.wait(max(0.05, due_in_s))
        return claims

    def _take(self, registration: Registration, room: int) -> list[QueueClaim]:
        limit = min(room, BATCH)
        claims = self._queue.claim(registration, limit, self._skips)
        self._board.hold(claims)
        self._more = len(claims) == limit
        return self._leave_to_others(claims)

    def _leave_to_others(self, claims: list[QueueClaim]) -> list[QueueClaim]:
        """Release jobs that failed here if another executor can run them; return the rest."""
        broken = self._reporter.broken_here
        actions = {c.entry: action for c in claims if (action := broken.action_of(c.job_id))}
        # Usually there are none, and ZooKeeper is not asked.
        elsewhere = self._run_elsewhere() if actions else frozenset()
        left = [claim for claim in claims if actions.get(claim.entry) in elsewhere]
        if not left:
            return claims
        for claim in left:
            log.info("job.left", job=claim.job_id, entry=claim.entry)
            self._skips.add(claim.entry)
        self._reporter.let_go(left, Disposal.RELEASE)
        return [claim for claim in claims if claim not in left]

    def _run_elsewhere(self) -> frozenset[str]:
        """Return the actions of all other live executors that do not drain."""
        try:
            live = list_executors(self._session.client)
        except QueueError:
            return frozenset()  # without an answer, run them here
        others = [other for other in live if other.name != self._name and not other.draining]
        return frozenset(action for other in others for action in other.actions)

    def _settle_in_turn(self, registration: Registration, claims: list[QueueClaim]) -> None:
        """Settle claims and, while there are more and room for them, the next ones.

        ZooKeeper makes the next claims while the API is asked about these, and the API is
        asked about the next ones while these are handed to the workers.
        """
        if not claims:
            return  # the queue was empty, or all of the batch is left to other executors
        room = self._room_beyond(registration, claims)
        # A single job would only wait for one more thread.
        answer = self._asker.ask_soon(claims) if room else partial(self._asker.ask, claims)
        while claims:
            following, following_answer = [], answer
            try:
                if room:
                    following = self._take(registration, room)
                if following:
                    following_answer = self._asker.ask_soon(following)
            finally:
                # Also if the next claim fails, because the API was asked about these.
                self._hand_over(claims, self._replies(claims, answer))
            claims, answer = following, following_answer
            room = self._room_beyond(registration, claims)

    def _room_beyond(self, registration: Registration, claims: Sequence[QueueClaim]) -> int:
        """Return how many more to claim before these are settled; usually 0."""
        # An answer may have shown that the registration is void, or that the API refuses us.
        valid = self._known_to_api and self._registration is registration
        if not self._more or not valid or not self._may_ask(registration):
            return 0
        return self._prefetch.room_beyond(len(claims))

    def _may_ask(self, registration: Registration) -> bool:
        """Return whether claims of this registration are worth asking about; for any thread."""
        over = self._stopping.is_set() or self._outdated.is_set() or self._breaker.open
        return not over and self._session.holds(registration.session_id)

    def _ready(self) -> bool:
        """Return whether the API answers and has this executor's actions."""
        if self._breaker.open:
            # The API may come back with another store, which does not have the actions.
            self._known_to_api = False
        if not self._breaker.try_to_close():
            return False
        if not self._known_to_api:
            try:
                self._api.publish_actions(self._published)
            except ApiUnavailableError as error:
                self._breaker.trip(error)
                return False
            except ApiError as error:
                log.error("api.refused", error=error.message)
                self._stopping.wait(REFUSED_S)
                return False
            self._known_to_api = True
        return True

    def register_again(self) -> None:
        """Have the claimer register again, and wake it up to do so; for any thread."""
        self._outdated.set()
        self._queue.wake()

    def _registered(self) -> Registration | None:
        if self._outdated.is_set():
            self._outdated.clear()
            self._registration = None
        if self._registration is None and self._session.wait_alive(PAUSE_S):
            registration = self._queue.register(self._about())
            self._queue.recover(registration, self._board.held(registration))
            self._registration = registration
            self._on_registered(registration)
            log.info("executor.registered", node=registration.node)
        return self._registration

    # --- what the API says ----------------------------------------------------

    def _replies(self, claims: list[QueueClaim], answer: Answered) -> list[ClaimReply]:
        """Return the API's replies; without replies, settle the claims, and return none."""
        try:
            return answer()
        except CancelledError:
            self._reporter.let_go(claims, Disposal.RELEASE)
        except ApiUnavailableError as error:
            self._breaker.trip(error)
            self._reporter.let_go(claims, Disposal.RELEASE)
            self._stopping.wait(PAUSE_S)
        except ApiError as error:
            if unwelcome(error):
                # Every claim would be refused: none is made until the API takes our actions.
                self._known_to_api = False
                self._reporter.let_go(claims, Disposal.RELEASE)
            else:
                self._settle_apart(claims, error)
        except Exception:
            # A claim that is not released would block its job until this session ends.
            log.exception("claims.failed")
            self._reporter.let_go(claims, Disposal.RELEASE)
            self._stopping.wait(PAUSE_S)
        return []

    def _hand_over(self, claims: list[QueueClaim], replies: list[ClaimReply]) -> None:
        """Do what the API says of each claim; without replies, nothing."""
        if not replies:
            return
        running = [r.document["action"] for r in replies if r.document is not None]
        self._prefetch.saw(running)
        for claim, reply in zip(claims, replies, strict=True):
            self._settle_or_release(claim, reply)

    def _settle_apart(self, claims: list[QueueClaim], error: ApiError) -> None:
        """Find the claim that the API refuses, by halving the batch, and skip it for a while.

        Claimed again at once it would be refused again, and block the entries behind it.
        """
        if len(claims) > 1:
            middle = len(claims) // 2
            for half in (claims[:middle], claims[middle:]):
                self._hand_over(half, self._replies(half, partial(self._asker.ask, half)))
            return
        log.error("claim.refused", job=claims[0].job_id, error=error.message)
        self._skips.add(claims[0].entry)
        self._reporter.let_go(claims, Disposal.RELEASE)

    def _settle_or_release(self, claim: QueueClaim, reply: ClaimReply) -> None:
        try:
            self._settle_one(claim, reply)
        except Exception:
            log.exception("claim.unsettled", job=claim.job_id)
            self._skips.add(claim.entry)
            self._reporter.let_go([claim], Disposal.RELEASE)

    def _settle_one(self, claim: QueueClaim, reply: ClaimReply) -> None:
        log.info("job.claimed", job=claim.job_id, entry=claim.entry, answer=reply.answer)
        if reply.answer.runs:
            admitted = reply.document is None or self._prefetch.admits(reply.document["action"])
            if not admitted:
                self._skips.add(claim.entry)
            self._dispatch(claim, reply, give_back=not admitted)
            return
        done = reply.answer.consumes or (
            reply.answer is Answer.GONE and self._skips.gone_for_good(claim.entry)
        )
        if not done and reply.answer is not Answer.GONE:
            self._skips.add(claim.entry)
        if reply.answer is Answer.STALE:
            # There may be a new incarnation, which a new registration reads.
            self._registration = None
        self._reporter.let_go([claim], Disposal.CONSUME if done else Disposal.RELEASE)
