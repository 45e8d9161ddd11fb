"""The peer's executor (docs/cimi.md §6.1 to §6.4): one thread, one job at a time."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import requests
from kazoo.client import KazooClient
from kazoo.recipe.queue import LockingQueue
from nuvla.api import Api
from nuvla.api.api import NuvlaError

VERSION: Final = "5.1.4"
FINAL: Final = ("SUCCESS", "FAILED", "CANCELED")

Call = tuple[str, str, Any]
"""Method, path below `/api/`, body."""


class JobUpdateError(Exception):
    """The API refused an edit, or did not answer."""


class JobNotFoundError(Exception):
    """The job is not there, looked at twice."""


@dataclass
class Job:
    """A job as the executor holds it: refreshed from the answer to every edit."""

    api: Api
    data: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.data["id"])

    @property
    def payload(self) -> Any:
        return json.loads(self.data.get("payload", "{}"))

    @property
    def context(self) -> Any:
        return self.api.operation(self.api.get(self.id), "get-context").data

    def edit(self, attributes: Mapping[str, Any]) -> None:
        """Edit the job, and take over all that the answer says."""
        try:
            self.data = self.api.edit(self.id, attributes).data
        except (NuvlaError, requests.ConnectionError) as error:
            raise JobUpdateError(str(error)) from error

    def progress(self, percent: int, message: str | None = None) -> None:
        extra = {} if message is None else {"status-message": message}
        self.edit({"progress": percent, **extra})

    def affect(self, href: str) -> None:
        """Read, modify, write: of the own copy."""
        affected = [*self.data.get("affected-resources", []), {"href": href}]
        self.edit({"affected-resources": affected})


Action = Callable[[Job], int | None]
"""An action's `do_work`; what constructing it raises comes from the factory."""


def log_in(url: str, key: Mapping[str, str], calls: list[Call] | None = None) -> Api:
    """Make the client of a process that has an API key (docs/cimi.md §6.1)."""
    api = Api(url, insecure=True, persist_cookie=False, reauthenticate=True)
    if api.login_apikey(key["key"], key["secret"]).status_code == 403:
        raise SystemExit(1)
    return _noted(api, calls)


def by_header(url: str, authn_info: str, calls: list[Call] | None = None) -> Api:
    """Make a client that says who it is by `nuvla-authn-info`."""
    return _noted(Api(url, insecure=True, persist_cookie=False, authn_header=authn_info), calls)


def _noted(api: Api, calls: list[Call] | None) -> Api:
    def note(response: requests.Response, *_: Any, **__: Any) -> None:
        sent = response.request
        path = str(sent.url).removeprefix(f"{api.endpoint}/api/")
        body = json.loads(sent.body) if sent.body and "json" in _type_of(sent) else None
        assert calls is not None
        calls.append((str(sent.method), path, body))

    if calls is not None:
        api.session.hooks["response"].append(note)
    return api


def _type_of(sent: requests.PreparedRequest) -> str:
    return str(sent.headers.get("Content-Type", ""))


@dataclass
class Executor:
    """The loop of docs/cimi.md §6.3; `patience_s` is the wait before a second read (2 s there)."""

    api: Api
    zookeeper: KazooClient
    actions: Mapping[str, Action]
    patience_s: float = 2.0
    ran: list[str] = field(default_factory=list)
    """The jobs whose actions were started, in order."""
    ended: list[tuple[str, str]] = field(default_factory=list)
    """Each job that was taken, and what became of its entry."""

    def __post_init__(self) -> None:
        self.queue = LockingQueue(self.zookeeper, "/job")

    def run(self, stop: threading.Event) -> None:
        """Take jobs until told to stop; the current one is finished first."""
        while not stop.is_set():
            self.run_one(timeout_s=0.5)

    def run_one(self, timeout_s: float = 5.0) -> tuple[str, str] | None:
        """Take one job; returns it, and `consumed` or `released`. None: there was none."""
        data = self.queue.get(timeout=timeout_s)
        if data is None:
            return None
        job_id = data.decode()
        consumes = self._process(job_id)
        if consumes:
            self.queue.consume()
        else:
            self.queue.release()
        self.ended.append((job_id, "consumed" if consumes else "released"))
        return self.ended[-1]

    # --- one job; each returns whether its entry is consumed ------------------

    def _process(self, job_id: str) -> bool:
        try:
            job = self._fetch(job_id)
        except JobNotFoundError:
            return True
        except (NuvlaError, requests.ConnectionError):
            return False
        try:
            return self._handle(job)
        except JobUpdateError:
            return False
        except Exception:  # noqa: BLE001 - it consumes what it does not understand (D19)
            return True

    def _fetch(self, job_id: str) -> Job:
        for _ in range(2):
            try:
                return Job(self.api, self.api.get(job_id).data)
            except NuvlaError as error:
                if error.response.status_code != 404:
                    raise
                time.sleep(self.patience_s)
        raise JobNotFoundError(job_id)

    def _handle(self, job: Job) -> bool:
        version = job.data.get("version", 0)
        if version < 2:
            job.edit(_failed(f"Job v{version} is not supported by Job engine v{VERSION}"))
            return True
        if version > 2:
            return False
        if job.data["state"] in FINAL:
            return True
        # RUNNING is a warning in its log, and it goes on.
        action = self.actions.get(job.data["action"])
        if action is None:
            job.edit(_failed(f"Not implemented action {job.id}: {job.data['action']}"))
            return True
        job.edit({"state": "RUNNING"})
        self._work(job, action)
        return True

    def _work(self, job: Job, action: Action) -> None:
        self.ran.append(job.id)
        try:
            code = action(job)
        except Exception as error:  # noqa: BLE001 - whatever an action raises
            self._report(job, error)
            return
        if job.data["state"] == "RUNNING" and "monitor" in job.data.get("tags", []):
            return  # the monitor will end it
        state = "FAILED" if code else "SUCCESS"
        job.edit({"state": state} if code is None else {"state": state, "return-code": code})

    def _report(self, job: Job, error: Exception) -> None:
        reason = f"{type(error).__name__}-{''.join(traceback.format_exception(error))}"
        if job.data["execution-mode"] == "mixed":
            prefix = "Re-running job in pull mode after failed first attempt: "
            job.edit(
                {"state": "QUEUED", "status-message": prefix + reason, "execution-mode": "pull"}
            )
        else:
            job.edit({**_failed(reason), "return-code": 1})


def _failed(message: str) -> dict[str, Any]:
    return {"state": "FAILED", "status-message": message}


# --- bulk actions (docs/cimi.md §6.4) -------------------------------------------


@dataclass
class Bulk:
    """A `bulk_*` action: one operation on everything that a filter finds."""

    url: str
    kind: str
    operate: Callable[[Api, Job, str], int]
    """Does it to one resource; returns the `status` of the answer."""

    def __call__(self, job: Job) -> int | None:
        info = job.payload["authn-info"]
        who = " ".join([info["user-id"], info["active-claim"], *info["claims"]])
        api = by_header(self.url, who)
        found = api.search(self.kind, filter=job.payload["filter"], select="id").resources
        result = _Result(len(found))
        for item in found:
            result.note(item.id, self.operate(api, job, item.id))
            job.edit({"status-message": json.dumps(result.summary()), "progress": result.progress})
        if result.progress < 100:
            job.edit({"tags": ["monitor"]})
            return None
        return 0


@dataclass
class _Result:
    total: int
    success: list[str] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def note(self, resource: str, status: int) -> None:
        kinds = {202: self.queued, 200: self.success, 201: self.success}
        kinds.get(status, self.failed).append(resource)

    @property
    def progress(self) -> int:
        return 100 * (len(self.success) + len(self.failed)) // self.total

    def summary(self) -> dict[str, Any]:
        return {
            "total_actions": self.total,
            "failed_count": len(self.failed),
            "skipped_count": 0,
            "success": self.success,
            "success_count": len(self.success),
            "queued": self.queued,
            "queued_count": len(self.queued),
            "running": [],
            "running_count": 0,
            "error_reasons": [],
            "jobs_count": len(self.queued),
        }


def operation(name: str) -> Callable[[Api, Job, str], int]:
    """Return what runs an operation on one resource."""

    def operate(api: Api, job: Job, resource: str) -> int:
        data = {"low-priority": True, "parent-job": job.id}
        try:
            return int(api.operation(api.get(resource), name, data).data["status"])
        except NuvlaError as error:
            return int(error.response.status_code)

    return operate


def monitor_bulk_job(job: Job) -> int:
    """Look after a bulk job whose children still run."""
    bulk = job.data["target-resource"]["href"]
    job.api.get(bulk)
    children = job.api.search(
        "job", filter=f'parent-job="{bulk}"', last=10000, select="id, target-resource, state"
    ).resources
    young = f'(id="{bulk}" and created>"now-1h")'
    if job.api.search("job", filter=young, last=0).count == 0:
        job.api.operation(job.api.get(bulk), "cancel")
        return 0
    done = [child for child in children if child.data["state"] in FINAL]
    progress = 100 * len(done) // len(children) if children else 100
    ended: Mapping[str, Any] = {"state": "SUCCESS", "return-code": 0} if progress == 100 else {}
    job.api.edit(bulk, {"progress": progress, "status-message": "{}", **ended})
    return 0


def cancel_children_jobs(job: Job) -> int:
    """Cancel what a cancelled bulk job had started."""
    parent = job.data["target-resource"]["href"]
    states = ["RUNNING", "QUEUED"]
    children = job.api.search(
        "job", filter=f'(parent-job="{parent}" and state={states})', select="id, operations"
    ).resources
    for child in children:
        job.api.operation(child, "cancel")
    return 0


def cleanup_jobs(job: Job) -> int:
    """Delete what ended a week ago."""
    states: Sequence[str] = ["SUCCESS", "FAILED", "CANCELED"]
    summary = job.api.delete_bulk("job", f"state={states} and created<'now-7d'").data
    assert not summary["timed_out"]
    job.progress(90, f"deleted {summary['deleted']}")
    return 0
