"""Creating jobs: one, many in bulk, once for an idempotency key, and again from an old job."""

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
from job_engine.api.schema import PLACEHOLDER_TIMES, JobSchema, invalid, validate
from job_engine.api.types.base import created, normal_acl
from job_engine.errors import InvalidResourceError
from job_engine.model import DEFAULT_PRIORITY, SUPPORTED_VERSION, ExecutionMode, Job
from job_engine.model.acl import ADMIN, Acl, with_principal
from job_engine.store.base import Document, write_json
from job_engine.store.jobs.idempotency import OnceKey

WAITING: Final = frozenset({"queue-position", "estimated-wait"})
"""Attributes that are computed when a waiting job is read."""
SERVER_SET: Final = WAITING | {
    *("id", "resource-type", "created", "updated", "updated-by", "operations"),
    "resubmitted-from",
}
"""Attributes that only the server sets."""
_OUTCOME: Final = ("output", "return-code", "started", "duration")
"""Attributes of the outcome, which only a run or an admin sets: a score is believed for them."""
_RESUBMITTED: Final[Sequence[str]] = (
    *("action", "payload", "parent", "parent-job", "target-resource", "affected-resources"),
    *("acl", "tags", "name", "description", "subtype", "resource-metadata"),
    *("execution-mode", "version", "max-attempts"),
)
"""Attributes that a resubmitted job takes from the old one, beside the priority."""
MAX_BULK: Final = 10_000
"""Most jobs that one request creates."""
_MAX_PROBLEMS: Final = 100
"""Problems of a bulk request that one answer lists."""
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
    """Resubmit: create a job with the request of an old one."""

    def make() -> list[Document]:
        body = {k: old.document[k] for k in _RESUBMITTED if k in old.document}
        if old.priority != DEFAULT_PRIORITY:
            body["priority"] = old.priority  # a claim removes it from the document
        # Taken over unchecked: the caller need not manage the callbacks' secrets.
        kept = {k: old.document[k] for k in ("callbacks",) if k in old.document}
        # Whose child it is was granted to the old one.
        parents = Parents(call, [old.document["parent-job"]] if "parent-job" in body else ())
        new = new_job(call, body, _payloads(call), parents)
        return [new | kept | {"resubmitted-from": old.id}]

    return _create_once(call, make, _reply, "resubmit")


def _create_once(
    call: Call,
    make: Callable[[], list[Document]],
    reply: Callable[[Sequence[str]], Reply],
    operation: str = "add",
) -> Reply:
    """Create jobs, or repeat the answer to an earlier request with the same idempotency key."""
    store = call.services.store
    key = _idempotency_key(call)
    # Not validated again: the action may be stricter by now.
    earlier = None if key is None else store.idempotency.find(key)
    if earlier is None:
        documents = make()
        ids = [document["id"] for document in documents]
        recorder = record(call, operation, ids)
        if key is None:
            store.jobs.add_many(documents, recorder)
        else:
            earlier = store.idempotency.add_many(documents, key, recorder)
        if earlier is None:
            return reply(ids)
    answer = reply(earlier)
    return replace(answer, headers={**answer.headers, "Idempotency-Replayed": "true"})


def _idempotency_key(call: Call) -> OnceKey | None:
    key = call.headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise BadKeyError
    request = [call.path, "bulk" in call.headers, call.body]
    text = json.dumps(request, sort_keys=True, separators=(",", ":"))
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
    """Return the document of a new job, validated. Raises `InvalidResourceError`."""
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
        document.pop("tags", None)  # once pushed, it has its queue entry there
    if isinstance(document.get("payload"), dict):
        document["payload"] = write_json(document["payload"])
    _append_target(document)
    acl = document.get("acl")
    document["acl"] = normal_acl(acl) if student else _new_acl(call.who, acl)
    validate(JobSchema, {**document, **PLACEHOLDER_TIMES})
    payloads.check(document["action"], document.get("payload"), admin=call.who.is_admin)
    check_blobs(call, document.get("payload"))
    parents.check(document)
    check_callbacks(call, document.get("callbacks"))
    return document


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _append_target(document: Document) -> None:
    target = document.get("target-resource")
    affected = document.get("affected-resources", [])
    if target is not None and isinstance(affected, list) and target not in affected:
        document["affected-resources"] = [*affected, target]


def _new_acl(who: Identity, acl: Any) -> Acl:
    """Return the ACL of a new job.

    Only an admin may name owners and editors: its creator must not be able to write a job's
    outcome, which holds the score.
    """
    if acl is None:
        return {key: [*held] for key, held in _own_acl(who.active_claim, who.is_admin).items()}
    if who.is_admin:
        return normal_acl(acl)
    if not isinstance(acl, dict):
        return normal_acl(acl)
    return _shared_acl(who.active_claim, acl)


@lru_cache(maxsize=1024)
def _own_acl(claim: str, is_admin: bool) -> Acl:
    """Return the default ACL of a job, by its creator's active claim."""
    return normal_acl({"owners": [claim]}) if is_admin else _shared_acl(claim, {})


def _shared_acl(claim: str, acl: Document) -> Acl:
    for key in ("owners", "edit-acl", "edit-data"):
        acl = {k: v for k, v in acl.items() if k != key}
    mine = {"view-acl", "manage", "delete", "edit-meta"}
    lists = {k: v for k, v in acl.items() if isinstance(v, list)}
    shared = {**acl, **{k: with_principal(lists.get(k, []), claim) for k in mine}}
    return normal_acl({**shared, "owners": [ADMIN]})
