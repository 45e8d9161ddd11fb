"""A candidate in one election, and the work that it does while it is the leader."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from kazoo.exceptions import NoAuthError, NoNodeError
from kazoo.recipe.election import Election

from job_engine.client import unwelcome
from job_engine.errors import (
    ApiError,
    ApiUnavailableError,
    LeadershipLostError,
    QueueError,
    QueueRefusedError,
    SessionLostError,
)
from job_engine.log import get_logger
from job_engine.queue import ZooKeeperSession, layout
from job_engine.queue.session import ZK_ERRORS

log = get_logger(__name__)

REFUSED_S: Final = 5.0
"""Wait after ZooKeeper or the API refused this process; an operator has to fix that."""

PAUSE_S: Final = 0.5
"""Wait after ZooKeeper or the API gave no answer."""


@dataclass(frozen=True)
class Leadership:
    """One term as leader; it ends with the ZooKeeper session, or when the process stops."""

    node: str
    """Path of the leader's own election node; every push checks it."""
    holds: Callable[[], bool]
    """Says whether the term goes on."""


class Duty(ABC):
    """The work of a leader, in small steps."""

    @abstractmethod
    def take_over(self, leadership: Leadership) -> None:
        """Prepare for the term; called at its start, and again after an answer was lost."""

    @abstractmethod
    def step(self, leadership: Leadership) -> float:
        """Do what is due; return how many seconds may pass until the next step."""


class Term:
    """Runs the steps of a duty for one term, and starts over after unanswered requests."""

    def __init__(self, name: str, duty: Duty, leadership: Leadership) -> None:
        self._name = name
        self._duty = duty
        self._leadership = leadership
        self._known = False
        self.helpless = False
        """Whether the API did not answer the last two steps, or refuses this process: another
        one, on another machine or with another key, may fare better."""
        self._unanswered = False

    def step(self) -> float | None:
        """Run one step; return the seconds until the next one, or None when the term is over."""
        before, self.helpless, self._unanswered = self._unanswered, False, False
        try:
            if not self._known:
                self._duty.take_over(self._leadership)
                self._known = True
            return self._duty.step(self._leadership)
        except (LeadershipLostError, SessionLostError):
            return None
        except QueueRefusedError:
            raise
        except QueueError as error:
            # The request may have been carried out: read the state before repeating it.
            self._known = False
            log.info("leader.unanswered", election=self._name, error=error.message)
        except ApiError as error:
            # Pushed entries may be unrecorded: pushed again, they would be there twice,
            # and the window without a bound (bounded-window).
            self._known = False
            log.warning("leader.api_failed", election=self._name, error=error.message)
            self._unanswered = isinstance(error, ApiUnavailableError)
            # A single failure may be a restart of the API.
            self.helpless = unwelcome(error) or (self._unanswered and before)
            if unwelcome(error):
                return REFUSED_S
        return PAUSE_S


class Candidate:
    """A thread that runs `duty` whenever this process leads the election of `name`."""

    def __init__(self, session: ZooKeeperSession, name: str, identifier: str, duty: Duty) -> None:
        self._session = session
        self._name = name
        self._identifier = identifier
        self._duty = duty
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._election: Election | None = None
        self._pause_s = PAUSE_S
        """Seconds to wait before standing again; longer after a term in which the API did not
        answer or refused this process, so that the other candidates go first."""
        self._thread = threading.Thread(target=self._loop, name=f"elect-{name}", daemon=True)

    def start(self) -> None:
        """Stand for election."""
        self._thread.start()

    def wake(self) -> None:
        """Have the next step run now."""
        self._wanted.set()

    def ask_to_stop(self) -> None:
        """End the term or the candidacy; `join` waits for the thread."""
        self._stopping.set()
        self._wanted.set()
        if self._election is not None:
            self._election.cancel()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread, up to `timeout_s`."""
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            if not self._session.wait_alive(PAUSE_S):
                continue
            # A new object each time: kazoo's lock remembers its node across sessions.
            election = self._session.client.Election(layout.election(self._name), self._identifier)
            self._election = election
            self._pause_s = PAUSE_S
            if self._stopping.is_set():
                return
            try:
                self._withdraw_earlier()
                election.run(self._lead, election)
            except (NoAuthError, QueueRefusedError):
                log.error(
                    "election.refused", election=self._name, error=QueueRefusedError().message
                )
                self._stopping.wait(REFUSED_S)
            except (*ZK_ERRORS, SessionLostError) as error:
                # A stop interrupts it on purpose, and that it resigns is logged already.
                if not self._stopping.is_set():
                    log.info("election.interrupted", election=self._name, error=repr(error))
            except Exception:
                log.exception("election.failed", election=self._name)
            self._stopping.wait(self._pause_s)

    def _withdraw_earlier(self) -> None:
        """Delete election nodes that this session left when it last resigned.

        kazoo gives up on a deletion that is not answered twice. The old node would then
        stand before the new one, and nobody would lead until the session ends.
        """
        client, session_id = self._session.client, self._session.id
        path = layout.election(self._name)
        client.ensure_path(path)
        for child in client.get_children(path):
            stat = client.exists(f"{path}/{child}")
            if stat is not None and stat.ephemeralOwner == session_id:
                with suppress(NoNodeError):
                    client.delete(f"{path}/{child}")

    def _lead(self, election: Election) -> None:
        session_id = self._session.id
        leadership = Leadership(
            f"{layout.election(self._name)}/{election.lock.node}",
            lambda: not self._stopping.is_set() and self._still(session_id),
        )
        log.info("leader.elected", election=self._name, node=leadership.node)
        term = Term(self._name, self._duty, leadership)
        while leadership.holds():
            self._wanted.clear()
            patience_s = term.step()
            if patience_s is None:
                break
            if term.helpless and self._others_stand():
                self._pause_s = REFUSED_S
                break
            self._wanted.wait(patience_s)
        log.info("leader.resigned", election=self._name)

    def _others_stand(self) -> bool:
        return len(self._session.client.get_children(layout.election(self._name))) > 1

    def _still(self, session_id: int) -> bool:
        try:
            return self._session.id == session_id
        except SessionLostError:
            return False
