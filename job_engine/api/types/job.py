"""Jobs (specs/cimi-api.md §3)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final

from pydantic import ValidationError

from job_engine.api.access import keep_editable, project, rights, select
from job_engine.api.call import Call, Reply
from job_engine.api.errors import MethodNotAllowedError
from job_engine.api.identity import SUBMITTER, Identity
from job_engine.api.operations import job_operations
from job_engine.api.references import check_blobs
from job_engine.api.schema import JobSchema, invalid, validate
from job_engine.api.types.base import (
    BULK_SUMMARY,
    Collection,
    Operation,
    ResourceType,
    check,
    created,
    deleted,
    refuse,
)
from job_engine.errors import ConflictError, InvalidResourceError
from job_engine.model import SUPPORTED_VERSION, ExecutionMode, JobState
from job_engine.model.acl import ADMIN, EDIT, USER, VIEW, Right, normalise, with_principal
from job_engine.model.protocol import LogRequest, Receipt, Report, ReportKind
from job_engine.store.base import Document
from job_engine.store.jobs import Edit
from job_engine.store.query import Query, condition_of
from job_engine.store.source import JOBS

_SERVER_SET: Final = ("id", "resource-type", "created", "updated", "updated-by", "operations")
_FIXED: Final = frozenset({"id", "created", "created-by", "updated", "resource-type", "operations"})
_UNDELETABLE: Final = _FIXED | {"acl"}
_ADMIN_ONLY: Final = frozenset({"target-resource", "action"})
_OUTCOME: Final = ("output", "return-code", "started", "duration")
"""What only a run may say: graders are believed for it, whoever asked for the job is not."""
MAX_BULK: Final = 10_000
"""Most jobs that one request creates."""
_CANCEL_CHILDREN_PRIORITY: Final = 10


class JobType(ResourceType):
    """The collection `job`."""

    name: ClassVar[str] = "job"
    collection: ClassVar[Collection] = Collection(
        query=(USER,), add=(SUBMITTER,), bulk_delete=(ADMIN,)
    )

    def query(self, call: Call) -> Reply:
        """Search among the jobs that the caller may see."""
        return self.query_source(call, JOBS, job_operations)

    # --- creating --------------------------------------------------------------

    def add(self, call: Call) -> Reply:
        """Create one job; with the header `bulk`, all of `{"jobs": […]}` or none."""
        self.require(call, self.collection.add)
        body = call.json_object()
        if "bulk" in call.headers:
            return self._add_many(call, body)
        document = new_job(call, body)
        call.services.store.jobs.add(document)
        return created(document["id"])

    def _add_many(self, call: Call, body: Document) -> Reply:
        bodies = body.get("jobs")
        if not isinstance(bodies, list) or not bodies or len(bodies) > MAX_BULK:
            raise invalid([f"jobs: must be a list of 1 to {MAX_BULK} jobs"])
        documents = []
        for index, item in enumerate(bodies):
            if not isinstance(item, dict):
                raise invalid([f"jobs/{index}: must be an object"])
            try:
                documents.append(new_job(call, item))
            except InvalidResourceError as error:
                raise InvalidResourceError(f"jobs/{index}: {error.message}") from error
        call.services.store.jobs.add_many(documents)
        ids = [document["id"] for document in documents]
        return Reply(
            {"status": 201, "message": f"{len(ids)} jobs created", "resource-ids": ids}, 201
        )

    # --- one job ---------------------------------------------------------------

    def get(self, call: Call, resource_id: str) -> Reply:
        """Return a job as far as the caller may see it."""
        document = call.services.store.jobs.get(resource_id)
        held = rights(call.who, document)
        check(held, VIEW, resource_id)
        operations = job_operations(document, held, call.who)
        seen = project(document, held)
        if operations:
            seen = {**seen, "operations": operations}
        return Reply(select(seen, call.params.select))

    def edit(self, call: Call, resource_id: str) -> Reply:
        """Merge the body into a job that is not final, and return all of it."""
        body = call.json_object()
        edited = call.services.store.jobs.edit(
            resource_id,
            partial(_may, call.who, EDIT),
            lambda before: _merge(call, before, body),
            call.who.user_id,
        )
        return Reply(project(edited, rights(call.who, edited)))

    def delete(self, call: Call, resource_id: str) -> Reply:
        """Delete a job in whatever state it is."""
        call.services.store.jobs.delete(resource_id, partial(_may, call.who, Right.DELETE))
        return deleted(resource_id)

    def bulk_delete(self, call: Call) -> Reply:
        """Delete the jobs that match the filter, in whatever state they are."""
        self.require_bulk(call)
        condition = condition_of(JOBS, Query(call.params.filter), call.services.store.clock())
        began_ms = call.services.store.clock()
        count = call.services.store.jobs.delete_where(condition)
        took = call.services.store.clock() - began_ms
        return Reply({"took": took, "total": count, "deleted": count, **BULK_SUMMARY})

    # --- operations ------------------------------------------------------------

    def operations(self) -> Mapping[str, Operation]:
        """Return cancel, timeout, get-context and log."""
        return {
            "cancel": self._cancel,
            "timeout": self._timeout,
            "get-context": self._get_context,
            "log": self._log,
        }

    def _cancel(self, call: Call, resource_id: str) -> Reply:
        return self._end(call, resource_id, "cancel")

    def _timeout(self, call: Call, resource_id: str) -> Reply:
        return self._end(call, resource_id, "timeout")

    def _end(self, call: Call, resource_id: str, operation: str) -> Reply:
        require_post(call, resource_id)

        def authorise(document: Document) -> None:
            _offered(call.who, document, operation)

        def children(cancelled: Document) -> Document:
            return _cancel_children(call.who, cancelled)

        jobs_ = call.services.store.jobs
        bulk = operation == "cancel" and _action_of(call, resource_id).startswith("bulk")
        ended = jobs_.cancel(resource_id, authorise, call.who.user_id, children if bulk else None)
        return Reply(project(ended, rights(call.who, ended)))

    def _get_context(self, call: Call, resource_id: str) -> Reply:
        _offered(call.who, call.services.store.jobs.get(resource_id), "get-context")
        return Reply({})

    def _log(self, call: Call, resource_id: str) -> Reply:
        if call.method == "POST":
            return self._add_to_log(call, resource_id)
        document = call.services.store.jobs.get(resource_id)
        check(rights(call.who, document), Right.VIEW_DATA | Right.VIEW_ACL, resource_id)
        page = call.services.store.logs.read(resource_id, after=call.params.after)
        return Reply({"lines": list(page.lines), "next": page.next})

    def _add_to_log(self, call: Call, resource_id: str) -> Reply:
        """Take lines from the report phase of the run that holds the claim's token."""
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        claim = call.services.claim_tokens.read(token)
        if scheme.lower() != "bearer" or claim is None or claim[0] != resource_id:
            raise refuse(resource_id)
        try:
            request = LogRequest.model_validate(call.json_object())
        except ValidationError as error:
            raise invalid([f"{e['loc'][0]}: {e['msg']}" for e in error.errors()]) from None
        report = Report(
            job=resource_id,
            fence=claim[1],
            kind=ReportKind.PROGRESS,
            status_message=request.message,
            log=request.lines,
        )
        (receipt,) = call.services.store.claims.report([report], resource_id)
        if receipt is not Receipt.ACCEPTED:
            raise ConflictError("the run that this token was made for is over")
        return Reply({"status": 200, "message": "added to the log", "resource-id": resource_id})


def new_job(call: Call, body: Document) -> Document:
    """Make the document of a job that is created. Raises `InvalidResourceError`."""
    document = {k: v for k, v in body.items() if k not in _SERVER_SET}
    document |= {"id": f"job/{uuid.uuid4()}", "resource-type": "job", "state": "QUEUED"}
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
    document["acl"] = _new_acl(call.who, document.get("acl"))
    validate(JobSchema, {**document, **_TIMES})
    call.services.payloads.check(
        document["action"], document.get("payload"), admin=call.who.is_admin
    )
    check_blobs(call, document.get("payload"))
    return document


_TIMES: Final = dict.fromkeys(("created", "updated"), "2000-01-01T00:00:00.000Z")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _append_target(document: Document) -> None:
    target = document.get("target-resource")
    affected = document.get("affected-resources", [])
    if target is not None and isinstance(affected, list) and target not in affected:
        document["affected-resources"] = [*affected, target]


def _new_acl(who: Identity, acl: Any) -> Any:
    """Return the ACL of a new job.

    Only an admin may name owners and editors: a job's outcome is what graders are
    believed for, and whoever asked for it must not be able to write it.
    """
    if who.is_admin:
        return _normal({"owners": [who.active_claim]} if acl is None else acl)
    if acl is None:
        acl = {}
    if not isinstance(acl, dict):
        return _normal(acl)
    for key in ("owners", "edit-acl", "edit-data"):
        acl = {k: v for k, v in acl.items() if k != key}
    mine = {"view-acl", "manage", "delete", "edit-meta"}
    lists = {k: v for k, v in acl.items() if isinstance(v, list)}
    shared = {**acl, **{k: with_principal(lists.get(k, []), who.active_claim) for k in mine}}
    return _normal({**shared, "owners": [ADMIN]})


def _normal(acl: Any) -> Any:
    try:
        return normalise(acl)
    except InvalidResourceError as error:
        raise invalid([error.message]) from error


def _may(who: Identity, needed: Right, document: Document) -> None:
    check(rights(who, document), needed, document["id"])


def _offered(who: Identity, document: Document, operation: str) -> None:
    offered = job_operations(document, rights(who, document), who)
    if operation not in {item["rel"] for item in offered}:
        raise refuse(document["id"])


def _merge(call: Call, before: Document, body: Document) -> Edit:
    """Make the new document of an edit (specs/cimi-api.md §1.9, §3.5)."""
    held = rights(call.who, before)
    kept = keep_editable(body, held)
    ignored = _FIXED if call.who.is_admin else _FIXED | _ADMIN_ONLY
    kept = {k: v for k, v in kept.items() if k not in ignored}
    removed = set(keep_editable(dict.fromkeys(call.params.select or ()), held))
    removed -= _UNDELETABLE if call.who.is_admin else _UNDELETABLE | _ADMIN_ONLY
    after = {k: v for k, v in before.items() if k not in removed} | kept
    if isinstance(after.get("payload"), dict):
        after["payload"] = json.dumps(after["payload"], ensure_ascii=False)
    if "acl" in kept:
        after["acl"] = _normal(kept["acl"])
    validate(JobSchema, after, before["id"])
    # A whole document that is sent back says RUNNING too, and means nothing by it.
    echoed = "id" in body and before["state"] == JobState.RUNNING
    return Edit(after, claims=kept.get("state") == JobState.RUNNING and not echoed)


def require_post(call: Call, resource_id: str) -> None:
    """Refuse to change a job by GET: a link must not be able to."""
    if call.method != "POST":
        raise MethodNotAllowedError(call.method, call.path)


def _action_of(call: Call, resource_id: str) -> str:
    return str(call.services.store.jobs.get(resource_id)["action"])


def _cancel_children(who: Identity, cancelled: Document) -> Document:
    target = {"href": cancelled["id"]}
    return {
        "id": f"job/{uuid.uuid4()}",
        "action": "cancel_children_jobs",
        "state": "QUEUED",
        "progress": 0,
        "execution-mode": "push",
        "version": SUPPORTED_VERSION,
        "priority": _CANCEL_CHILDREN_PRIORITY,
        "created-by": who.creator,
        "target-resource": target,
        "affected-resources": [target],
        "acl": cancelled["acl"],
    }
