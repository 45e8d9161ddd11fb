"""The side of the people: a submitter, and an observer who looks at jobs meanwhile."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import requests

from tests.faults.bed.evidence import Document, Observation, Submission
from tests.support.engine import ADMIN_PASSWORD, eventually

TIMEOUT_S: Final = 5.0
BURST: Final = 10
"""Jobs that are submitted one right after the other."""
PRIORITIES: Final = (100, 500, 900)
FINAL: Final = frozenset({"SUCCESS", "FAILED", "CANCELED"})
LOOK_S: Final = 0.5
"""Between two looks of the observer."""
LOOK_AT: Final = 3
"""Of all jobs, and again of the newest."""
RECENT: Final = 200
PAGE: Final = 400
"""Jobs that are read at once: fewer than the shortest run has, so that pages are turned in it."""
_ATTRIBUTES: Final = "id,action,state,status-message,payload"


class Client:
    """A logged-in session, logged in again when it is forgotten. For one thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._logged_in = False

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        """Send one request, once; raises `requests.RequestException`."""
        if not self._logged_in:
            template = {
                "href": "session-template/password",
                "username": "admin",
                "password": ADMIN_PASSWORD,
            }
            reply = self._send("POST", "session", json={"template": template})
            reply.raise_for_status()
            self._logged_in = True
        reply = self._send(method, path, **more)
        if reply.status_code in (401, 403):
            self._logged_in = False
        return reply

    def _send(self, method: str, path: str, **more: Any) -> requests.Response:
        return self._session.request(method, f"{self._url}/api/{path}", timeout=TIMEOUT_S, **more)

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def documents(self) -> Iterator[Document]:
        """Read every job that is not the engine's own; raises `requests.RequestException`."""
        after = ""
        while True:
            # From id to id: by their number, the API shows the first 10,000 and no more.
            query: Mapping[str, str | int] = {
                "filter": f"(action='trace' or action='boxed') and id>'{after}'",
                "select": _ATTRIBUTES,
                "orderby": "id:asc",
                "last": PAGE,
            }
            reply = self.call("GET", "job", params=query)
            reply.raise_for_status()
            found = reply.json()["resources"]
            yield from map(document, found)
            if len(found) < PAGE:
                return
            after = found[-1]["id"]

    def unfinished(self) -> int:
        """How many jobs are not final."""
        query = {"filter": "state='QUEUED' or state='RUNNING'", "last": 0}
        reply = self.call("GET", "job", params=query)
        reply.raise_for_status()
        return int(reply.json()["count"])


def document(resource: Mapping[str, Any]) -> Document:
    """Take from a job's document what the checker looks at."""
    message = str(resource.get("status-message") or "")
    return Document(
        job=str(resource["id"]),
        action=str(resource["action"]),
        state=str(resource["state"]),
        run=message.rpartition(" ")[2],
        message=message,
        tag=str(json.loads(resource.get("payload") or "{}").get("tag", "")),
    )


class Submitter:
    """Submits jobs until enough were accepted, no more at a time than it is allowed.

    What it is not told (no reply, or one that says that the store was busy) is not sent
    again: whether that job exists is unknown.
    """

    def __init__(self, url: str, trace: Path, seed: int, jobs: int) -> None:
        self.submissions: list[Submission] = []
        self._client = Client(url)
        self._trace = trace
        self._rng = random.Random(seed + 1)
        self._jobs = jobs
        self._allowed = 0
        self._accepted = 0
        self._wanted = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="submitter", daemon=True)

    def start(self) -> None:
        """Start submitting."""
        self._thread.start()

    def allow(self, jobs: int) -> None:
        """Let it go on until this many were accepted."""
        with self._wanted:
            self._allowed = min(max(jobs, self._allowed), self._jobs)
            self._wanted.notify()

    def submit(self, jobs: int, timeout_s: float = 60.0) -> None:
        """Let it go on until this many were accepted, and wait for that."""
        self.allow(jobs)
        eventually(lambda: self._accepted >= jobs, timeout_s, f"{jobs} jobs accepted")

    def finish(self, timeout_s: float) -> None:
        """Let it submit the rest, and wait for it."""
        self.allow(self._jobs)
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), f"only {self._accepted} jobs were accepted"
        self._client.close()

    @property
    def accepted(self) -> int:
        """How many jobs were accepted so far."""
        return self._accepted

    @property
    def behind(self) -> int:
        """How many more jobs it is allowed to have had accepted."""
        return self._allowed - self._accepted

    @property
    def waits(self) -> bool:
        """Whether it is not allowed to go on."""
        return self._accepted + BURST > self._allowed

    def _run(self) -> None:
        while self._accepted < self._jobs:
            with self._wanted:
                # In bursts, so that there is a backlog to be worked off.
                ready = min(self._accepted + BURST, self._jobs)
                self._wanted.wait_for(lambda ready=ready: self._allowed >= ready)  # type: ignore[misc]
                until = self._allowed
            while self._accepted < until:
                if not self._submit_one():
                    time.sleep(0.2)

    def _submit_one(self) -> bool:
        submission, body = self._draw(len(self.submissions))
        self.submissions.append(submission)
        submission.sent_at = time.monotonic()
        try:
            reply = self._client.call("POST", "job", json=body)
        except requests.RequestException:
            return False
        if reply.status_code != 201:
            return False
        submission.answered_at = time.monotonic()
        submission.job = reply.json()["resource-id"]
        self._accepted += 1
        if submission.cancel:
            self._cancel(submission)
        return True

    def _cancel(self, submission: Submission) -> None:
        try:
            reply = self._client.call("POST", f"{submission.job}/cancel", json={})
        except requests.RequestException:
            return
        if reply.status_code == 200:
            submission.cancelled_at = time.monotonic()

    def _draw(self, number: int) -> tuple[Submission, dict[str, object]]:
        rng = self._rng
        # Long enough that most threads are busy, and that many a run outlives its session.
        seconds = rng.choice((0.0, rng.uniform(0, 4), rng.uniform(3, 12), rng.uniform(6, 20)))
        action = "boxed" if rng.random() < 0.12 else "trace"
        submission = Submission(
            tag=f"t{number}",
            action=action,
            priority=rng.choice(PRIORITIES),
            fails=rng.random() < 0.1,
            cancel=rng.random() < 0.03,
        )
        payload: dict[str, object] = {
            "tag": submission.tag,
            "seconds": round(seconds, 2),
            "fail": submission.fails,
        }
        if action == "trace":
            payload |= {"file": str(self._trace), "beat_s": 0.1}
            payload["scratch_bytes"] = 1 << 16 if rng.random() < 0.3 else 0
        body = {"action": action, "priority": submission.priority, "payload": json.dumps(payload)}
        return submission, body


class Observer:
    """Looks at a few jobs now and then, and remembers which it saw final, and how."""

    def __init__(self, url: str, seed: int, submissions: Callable[[], list[Submission]]) -> None:
        self.observations: list[Observation] = []
        self._client = Client(url)
        self._rng = random.Random(seed + 2)
        self._submissions = submissions
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopping.set()
        self._thread.join(3 * TIMEOUT_S)
        self._client.close()

    def _some(self, jobs: list[str]) -> list[str]:
        return self._rng.sample(jobs, min(LOOK_AT, len(jobs)))

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            known = [s.job for s in self._submissions() if s.job is not None]
            for job in {*self._some(known), *self._some(known[-RECENT:])}:
                try:
                    reply = self._client.call("GET", job)
                except requests.RequestException:
                    continue
                if reply.status_code == 200 and reply.json()["state"] in FINAL:
                    seen = Observation(time.monotonic(), document(reply.json()))
                    self.observations.append(seen)
