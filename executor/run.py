"""One run of one job: the context that its action gets, and how it is interrupted."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from executor.outcome import Ended
from job_engine.errors import ActionFailedError, ClaimLost, Interruption, PlatformFaultError
from job_engine.log import get_logger
from job_engine.model import Job
from job_engine.model.protocol.claims import JobNote
from job_engine.plugins import Action, Result
from job_engine.queue import QueueClaim

log = get_logger(__name__)

T = TypeVar("T")

LOG_LINE_LIMIT: Final = 8192
"""Characters of one log line that are kept."""

LOG_LIMIT: Final = 1 << 20
"""Characters of log that one run may write; a line says that the rest is dropped."""

EVENTS_LIMIT: Final = 1 << 19
"""Characters of events that one run may emit; the rest is dropped."""
_EVENT_CHARS: Final = 64
"""Characters that each event counts beside its data, which bounds the number of events."""


class Update(NamedTuple):
    """What is new of a run; the attributes are those of a `Report`."""

    progress: int | None
    """Percent."""
    status_message: str | None
    log: list[str]
    events: list[JobNote]


class Run:
    """One run of a claimed job; implements `plugins.Context` for its action.

    The claimer's thread makes it, a worker's thread executes it, and any thread may
    interrupt it.
    """

    def __init__(
        self,
        *,
        job: Job,
        claim: QueueClaim,
        action: Action[Any],
        collaborators: Mapping[type[Any], object],
        scratch_root: Path,
        on_update: Callable[[Run], None],
    ) -> None:
        self.claim = claim
        self.action = action
        self.started_at: float | None = None
        """Monotonic time at which the action was started."""
        self.interrupted_at: float | None = None
        self._job = job
        self._collaborators = collaborators
        self._scratch_root = scratch_root
        self._scratch: Path | None = None
        self._on_update = on_update
        self._payload: BaseModel | None = None
        self._lock = threading.Lock()
        self._interrupted = threading.Event()
        self._interruption: Interruption | None = None
        self._closers: list[Callable[[], None]] = []
        self._percent: int | None = None
        self._message: str | None = None
        self._lines: list[str] = []
        self._logged = 0
        self._events: list[JobNote] = []
        self._events_chars = 0

    def __repr__(self) -> str:
        return f"<Run {self._job.id} {self.claim.entry}>"

    # --- running --------------------------------------------------------------

    def execute(self) -> Ended:
        """Run the action; return its result, or the exception that it raised."""
        self.started_at = time.monotonic()
        try:
            self.checkpoint()
            self._payload = self._parse_payload()
            return _checked(self.action.run(self))
        except BaseException as error:  # noqa: BLE001 - an action may raise anything at all
            return error
        finally:
            if self._scratch is not None:
                shutil.rmtree(self._scratch, ignore_errors=True)

    def _parse_payload(self) -> BaseModel:
        text = self._job.payload or "{}"
        try:
            return self.action.payload.model_validate_json(text)
        except ValidationError as error:
            problems = "; ".join(
                f"{'/'.join(map(str, e['loc'])) or 'payload'}: {e['msg']}" for e in error.errors()
            )
            raise ActionFailedError(
                f"The payload does not fit the action {self.action.name!r}: {problems}."
            ) from error

    # --- being interrupted ----------------------------------------------------

    @property
    def interruption(self) -> Interruption | None:
        """What interrupted this run, or None."""
        return self._interruption

    def interrupt(self, interruption: Interruption) -> None:
        """Interrupt the action: close what it was lent, and raise at its next call.

        The first interruption counts, except that `ClaimLost` overrides any other.
        """
        with self._lock:
            if self._interruption is None or isinstance(interruption, ClaimLost):
                self._interruption = interruption
            if self._interrupted.is_set():
                return
            self.interrupted_at = time.monotonic()
            self._interrupted.set()
            closers, self._closers = self._closers, []
        log.info("job.interrupted", job=self._job.id, why=type(interruption).__name__)
        if closers:
            # In a thread: many runs may be interrupted at once, and closing a sandbox takes time.
            closer = threading.Thread(
                target=_close_all, args=(closers,), name=f"close-{self._job.id}", daemon=True
            )
            try:
                closer.start()
            except RuntimeError:
                # No thread can be started, so close here: this run has to end, and so have
                # those that are interrupted after it (lost-means-stop).
                _close_all(closers)

    def checkpoint(self) -> None:
        """Raise the interruption, if there is one."""
        if self._interrupted.is_set():
            assert self._interruption is not None
            raise self._interruption

    # --- the context of the action --------------------------------------------

    @property
    def job(self) -> Job:
        """The job as it was claimed."""
        return self._job

    @property
    def payload(self) -> Any:
        """The validated payload."""
        return self._payload

    @property
    def resumed(self) -> bool:
        """Whether an earlier run was interrupted."""
        return self._job.resumed

    @property
    def scratch(self) -> Path:
        """A private directory, made on first use."""
        self.checkpoint()
        if self._scratch is None:
            try:
                # An operator may have removed it, and every later run would break.
                self._scratch_root.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._scratch = Path(tempfile.mkdtemp(prefix="job-", dir=self._scratch_root))
            except OSError as error:
                raise PlatformFaultError(f"No scratch directory: {error}") from error
        return self._scratch

    def progress(self, percent: int, message: str | None = None) -> None:
        """Note the progress; the reporter sends the newest."""
        self.checkpoint()
        with self._lock:
            self._percent = max(0, min(99, percent))
            if message is not None:
                self._message = message
        self._on_update(self)

    def log(self, text: str) -> None:
        """Note log lines; the reporter sends them in order."""
        self.checkpoint()
        with self._lock:
            for line in text.splitlines():
                self._add_line(line[:LOG_LINE_LIMIT])
        self._on_update(self)

    def _add_line(self, line: str) -> None:
        if self._logged <= LOG_LIMIT < self._logged + len(line):
            self._lines.append("… the log is full; later lines are dropped.")
        self._logged += len(line)
        if self._logged <= LOG_LIMIT:
            self._lines.append(line)

    def event(self, kind: str, data: Mapping[str, Any], *, staff: bool = False) -> None:
        """Note an event; the reporter sends them in order, between the log's lines."""
        self.checkpoint()
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        with self._lock:
            self._events_chars += len(text) + _EVENT_CHARS
            if self._events_chars > EVENTS_LIMIT:
                return  # only the live view loses it: the results have everything
            self._events.append(JobNote(kind=kind, data=text, staff=staff, after=len(self._lines)))
        self._on_update(self)

    def should_stop(self) -> bool:
        """Whether the run is interrupted."""
        return self._interrupted.is_set()

    def sleep(self, seconds: float) -> None:
        """Wait, or raise at once when interrupted."""
        self._interrupted.wait(seconds)
        self.checkpoint()

    def need(self, kind: type[T]) -> T:
        """Return the collaborator of this type."""
        self.checkpoint()
        found = self._collaborators.get(kind)
        if not isinstance(found, kind):
            raise PlatformFaultError(
                f"The action {self.action.name!r} asks for {kind.__name__}, which its "
                "`needs` do not name."
            )
        return found

    @contextmanager
    def lend(self, close: Callable[[], None]) -> Iterator[None]:
        """Have `close` called by an interruption while the context is entered."""
        with self._lock:
            self._closers.append(close)
        try:
            self.checkpoint()
            yield
        finally:
            with self._lock:
                if close in self._closers:
                    self._closers.remove(close)

    # --- the reporter's side --------------------------------------------------

    def take_update(self) -> Update:
        """Return what is new since the last call."""
        with self._lock:
            percent, self._percent = self._percent, None
            message, self._message = self._message, None
            lines, self._lines = self._lines, []
            events, self._events = self._events, []
        return Update(percent, message, lines, events)


def _checked(returned: object) -> Result | None:
    # Plugins may not have been type-checked.
    if returned is None or isinstance(returned, Result):
        return returned
    raise PlatformFaultError(f"The action returned a {type(returned).__name__}, not a Result.")


def _close_all(closers: list[Callable[[], None]]) -> None:
    for close in closers:
        try:
            close()
        except Exception:
            log.exception("job.close_failed")
