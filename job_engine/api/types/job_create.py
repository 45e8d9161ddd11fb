"""How jobs are created: one, many at once, once for a key, and again from an old one."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from job_engine.api.audit import record
from job_engine.api.call import Call, Reply
from job_engine.api.errors import ProblemsError, RequestError
from job_engine.api.identity import Identity
from job_engine.api.jobs.callbacks import check_callbacks
from job_engine.api.jobs.handing_in import hand_in, is_student
from job_engine.api.jobs.payloads import Payloads
from job_engine.api.jobs.references import Parents, check_blobs
from job_engine.api.schema import JobSchema, invalid, validate
from job_engine.api.types.base import created
from job_engine.errors import InvalidResourceError
from job_engine.model import DEFAULT_PRIORITY, SUPPORTED_VERSION, ExecutionMode, Job
from job_engine.model.acl import ADMIN, Acl, normalise, with_principal
from job_engine.store.base import Document
from job_engine.store.jobs.idempotency import OnceKey

WAITING: Final = frozenset({"queue-position", "estimated-wait"})
"""What is worked out when somebody reads a job that waits."""
SERVER_SET: Final = WAITING | {
    *("id", "resource-type", "created", "updated", "updated-by", "operations"),
    "resubmitted-from",
}
"""What nobody else can say of a job."""
_OUTCOME: Final = ("output", "return-code", "started", "duration")
"""What only a run may say: graders are believed for it, whoever asked for the job is not."""
_ASKED_FOR: Final[Sequence[str]] = (
    *("action", "payload", "parent", "parent-job", "target-resource", "affected-resources"),
    *("acl", "tags", "name", "description", "subtype", "resource-metadata"),
    *("execution-mode", "version", "max-attempts"),
)
"""What a job that is sent again has of the old one, beside the priority."""
MAX_BULK: Final = 10_000
"""Most jobs that one request creates."""
_MAX_PROBLEMS: Final = 100
"""Problems of many jobs that are told at once."""
_KEY: Final = re.compile(r"[ -~]{1,255}")


class BadKeyError(RequestError):
    """`Idempotency-Key` must be 1 to 255 printable ASCII characters."""


def create(call: Call) -> Reply:
    """Create one job; with the header `bulk`, all of `{"jobs": [...]}` or none."""
    body = call.json_object()
    if "bulk" in call.headers:
        return _create_once(call, lambda: _many(call, body), _bulk_reply)
    return _create_once(call, lambda: [new_job(call, body, _payloads(call), Parents(call))], _reply)


def create_from(call: Call, old: Job) -> Reply:
    """Create a job that asks for what an old one asked for."""

    def make() -> list[Document]:
        body = {k: old.document[k] for k in _ASKED_FOR if k in old.document}
        if old.priority != DEFAULT_PRIORITY:
            body["priority"] = old.priority  # a claim has taken it off the document
        # Whoever sends it again need not manage the secrets: who is told was settled before.
        kept = {k: old.document[k] for k in ("callbacks",) if k in old.document}
        new = new_job(call, body, _payloads(call), Parents(call))
        return [new | kept | {"resubmitted-from": old.id}]

    return _create_once(call, make, _reply, "resubmit")


def _create_once(
    call: Call,
    make: Callable[[], list[Document]],
    reply: Callable[[Sequence[str]], Reply],
    operation: str = "add",
) -> Reply:
    """Create jobs, unless a request with the same key did so before: then answer as that."""
    store = call.services.store
    once = _once(call)
    # What was accepted before is not looked at again: its action may be stricter by now.
    made = None if once is None else store.idempotency.find(once)
    if made is None:
        documents = make()
        also = record(call, operation, [document["id"] for document in documents])
        if once is None:
            store.jobs.add_many(documents, also)
        else:
            made = store.idempotency.add_many(documents, once, also)
        if made is None:
            return reply([document["id"] for document in documents])
    first = reply(made)
    return replace(first, headers={**first.headers, "Idempotency-Replayed": "true"})


def _once(call: Call) -> OnceKey | None:
    key = call.headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise BadKeyError
    asked = [call.path, "bulk" in call.headers, call.body]
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return OnceKey(call.who.creator, key, hashlib.sha256(text.encode()).hexdigest())


def _reply(ids: Sequence[str]) -> Reply:
    return created(ids[0])


def _bulk_reply(ids: Sequence[str]) -> Reply:
    message = f"{len(ids)} jobs created"
    return Reply({"status": 201, "message": message, "resource-ids": list(ids)}, 201)


def _many(call: Call, body: Document) -> list[Document]:
    bodies = body.get("jobs")
    if not isinstance(bodies, list) or not bodies or len(bodies) > MAX_BULK:
        raise invalid([f"jobs: must be a list of 1 to {MAX_BULK} jobs"])
    documents: list[Document] = []
    problems: list[str] = []
    payloads, parents = _payloads(call), Parents(call)
    for index, item in enumerate(bodies):
        try:
            documents.append(new_job(call, _object(item), payloads, parents))
        except ProblemsError as error:
            problems += [f"jobs/{index}/{problem}" for problem in error.problems]
        except InvalidResourceError as error:
            problems.append(f"jobs/{index}: {error.message}")
        if len(problems) >= _MAX_PROBLEMS:
            break
    if problems:
        raise invalid(problems[:_MAX_PROBLEMS])
    return documents


def _object(item: Any) -> Document:
    if not isinstance(item, dict):
        raise InvalidResourceError("must be an object")
    return item


def _payloads(call: Call) -> Payloads:
    return Payloads(call.services.store.actions)


def new_job(call: Call, body: Document, payloads: Payloads, parents: Parents) -> Document:
    """Make the document of a job that is created. Raises `InvalidResourceError`."""
    student = is_student(call.who)
    if student:
        body = hand_in(call, body)
    document = {k: v for k, v in body.items() if k not in SERVER_SET}
    document |= {"id": f"job/{uuid.uuid4()}", "resource-type": "job", "state": "QUEUED"}
    if document.get("not-before", "") is None:
        del document["not-before"]
    if document.get("progress") is None:
        document["progress"] = 0
    for key, default in (("execution-mode", ExecutionMode.PUSH), ("version", SUPPORTED_VERSION)):
        document.setdefault(key, default)
    document["execution-mode"] = _plain(document["execution-mode"])
    if not call.who.is_admin or "created-by" not in document:
        document["created-by"] = call.who.creator
    if not call.who.is_admin:
        for key in _OUTCOME:
            document.pop(key, None)
    if document["execution-mode"] != ExecutionMode.PULL:
        document.pop("tags", None)  # theirs is the queue's entry, once there is one
    if isinstance(document.get("payload"), dict):
        document["payload"] = json.dumps(document["payload"], ensure_ascii=False)
    _append_target(document)
    acl = document.get("acl")
    document["acl"] = normal(acl) if student else _new_acl(call.who, acl)
    validate(JobSchema, {**document, **_TIMES})
    payloads.check(document["action"], document.get("payload"), admin=call.who.is_admin)
    check_blobs(call, document.get("payload"))
    parents.check(document.get("parent"))
    check_callbacks(call, document.get("callbacks"))
    return document


_TIMES: Final = dict.fromkeys(("created", "updated"), "2000-01-01T00:00:00.000Z")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _append_target(document: Document) -> None:
    target = document.get("target-resource")
    affected = document.get("affected-resources", [])
    if target is not None and isinstance(affected, list) and target not in affected:
        document["affected-resources"] = [*affected, target]


def _new_acl(who: Identity, acl: Any) -> Acl:
    """Return the ACL of a new job.

    Only an admin may name owners and editors: a job's outcome is what graders are
    believed for, and whoever asked for it must not be able to write it.
    """
    if acl is None:
        return {key: [*held] for key, held in _own_acl(who.active_claim, who.is_admin).items()}
    if who.is_admin:
        return normal(acl)
    if not isinstance(acl, dict):
        return normal(acl)
    return _shared_acl(who.active_claim, acl)


@lru_cache(maxsize=1024)
def _own_acl(claim: str, is_admin: bool) -> Acl:
    """Return the ACL of a job whose creator named nobody else."""
    return normal({"owners": [claim]}) if is_admin else _shared_acl(claim, {})


def _shared_acl(claim: str, acl: Document) -> Acl:
    for key in ("owners", "edit-acl", "edit-data"):
        acl = {k: v for k, v in acl.items() if k != key}
    mine = {"view-acl", "manage", "delete", "edit-meta"}
    lists = {k: v for k, v in acl.items() if isinstance(v, list)}
    shared = {**acl, **{k: with_principal(lists.get(k, []), claim) for k in mine}}
    return normal({**shared, "owners": [ADMIN]})


def normal(acl: Any) -> Acl:
    """Return the normal form of an ACL. Raises `InvalidResourceError`."""
    try:
        return normalise(acl)
    except InvalidResourceError as error:
        raise invalid([error.message]) from error
