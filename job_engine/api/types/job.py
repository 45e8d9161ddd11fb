"""Jobs (docs/cimi.md §3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Final

from pydantic import ValidationError
from sqlalchemy import Connection

from job_engine.api.access import keep_editable, project, rights, rights_held, select
from job_engine.api.audit import record, record_edit
from job_engine.api.call import Call, Reply
from job_engine.api.changes import Change, change_of, is_patch
from job_engine.api.collections import run_query
from job_engine.api.errors import MethodNotAllowedError
from job_engine.api.etags import REVALIDATE, etag_of, require_match, unless_known
from job_engine.api.identity import STUDENT, SUBMITTER, Identity
from job_engine.api.jobs.children import for_children
from job_engine.api.operations import job_operations
from job_engine.api.schema import JobDocument, JobSchema, Schema, invalid, validate
from job_engine.api.types.base import (
    Collection,
    Operation,
    ResourceType,
    bulk_deleted,
    check,
    deleted,
    normal_acl,
    refuse,
)
from job_engine.api.types.job_create import SERVER_SET, WAITING, create, create_from
from job_engine.api.types.stored import may_delete
from job_engine.errors import ConflictError
from job_engine.model import JobState
from job_engine.model.acl import ADMIN, EDIT, USER, VIEW, Right
from job_engine.model.protocol.claims import LogRequest, Report, ReportKind, ReportReceipt
from job_engine.store.base import Document, write_json
from job_engine.store.jobs.edits import Edit
from job_engine.store.search.query import Query, condition_of
from job_engine.store.search.source import JOBS

_FIXED: Final = SERVER_SET - {"updated-by"} | {"created-by", "not-before", "callbacks"}
_UNDELETABLE: Final = _FIXED | {"acl"}
_ADMIN_ONLY: Final = frozenset({"target-resource", "action"})
_PROGRESS: Final = frozenset({"progress", "status-message"})


class JobType(ResourceType):
    """The collection `job`."""

    name: ClassVar[str] = "job"
    collection: ClassVar[Collection] = Collection(
        query=(USER,), add=(SUBMITTER, STUDENT), bulk_delete=(ADMIN,)
    )
    schema: ClassVar[type[Schema]] = JobDocument
    asked: ClassVar[tuple[str, ...]] = ("action",)

    def query(self, call: Call) -> Reply:
        """Search among the jobs that the caller may see."""
        self.require(call, self.collection.query)
        page = run_query(call, JOBS, job_operations, partial(waiting_times, call))
        return self.collection_reply(call, page)

    # --- creating --------------------------------------------------------------

    def add(self, call: Call) -> Reply:
        """Create one job; with the header `bulk`, all of `{"jobs": […]}` or none."""
        self.require(call, (SUBMITTER,) if "bulk" in call.headers else self.collection.add)
        return create(call)

    # --- one job ---------------------------------------------------------------

    def get(self, call: Call, resource_id: str) -> Reply:
        """Return a job as far as the caller may see it."""
        document = call.services.store.jobs.get(resource_id)
        held = rights_held(call, document)
        check(held, VIEW, resource_id)
        document = document | waiting_times(call, [document]).get(resource_id, {})
        operations = job_operations(document, held, call.who)
        seen = project(document, held, call.services.store.clock())
        tag = etag_of(call, {k: v for k, v in seen.items() if k not in WAITING}, held)
        if operations:
            seen = {**seen, "operations": operations}
        selected = select(seen, call.params.select)
        if document["state"] == JobState.QUEUED and _tells_wait(call):
            return Reply(selected, headers={"ETag": tag, **REVALIDATE})  # its place changes unseen
        return unless_known(call, selected, tag)

    def edit(self, call: Call, resource_id: str) -> Reply:
        """Edit a job that is not final, and return the whole document."""
        asked = change_of(call)
        edited = call.services.store.jobs.edit(
            resource_id,
            partial(_may, call.who, EDIT),
            lambda before: _merge(call, before, asked),
            call.who.user_id,
            partial(_record_edit, call),
        )
        return _whole(call, edited)

    def delete(self, call: Call, resource_id: str) -> Reply:
        """Delete a job in whatever state it is."""
        recorder = record(call, "delete", [resource_id])
        call.services.store.jobs.delete(resource_id, partial(may_delete, call), recorder)
        return deleted(resource_id)

    def bulk_delete(self, call: Call) -> Reply:
        """Delete the jobs that match the filter, in whatever state they are."""
        self.require_bulk(call)
        store = call.services.store
        condition = condition_of(JOBS, Query(call.params.filter), store.clock())
        return bulk_deleted(call, lambda: store.jobs.delete_where(condition))

    # --- operations ------------------------------------------------------------

    def operations(self) -> Mapping[str, Operation]:
        """Return cancel, resubmit, timeout, get-context and log."""
        return {
            "cancel": self._cancel,
            "resubmit": self._resubmit,
            "timeout": self._timeout,
            "get-context": self._get_context,
            "log": self._log,
        }

    def _cancel(self, call: Call, resource_id: str) -> Reply:
        return self._end(call, resource_id, "cancel")

    def _timeout(self, call: Call, resource_id: str) -> Reply:
        return self._end(call, resource_id, "timeout")

    def _resubmit(self, call: Call, resource_id: str) -> Reply:
        require_post(call, resource_id)
        job = call.services.store.jobs.get_job(resource_id)
        _offered(call.who, job.document, "resubmit")
        return create_from(call, job)

    def _end(self, call: Call, resource_id: str, operation: str) -> Reply:
        require_post(call, resource_id)

        def authorise(document: Document) -> None:
            _offered(call.who, document, operation)
            require_match(call, document, rights(call.who, document))

        ended = call.services.store.jobs.cancel(
            resource_id,
            authorise,
            call.who.user_id,
            partial(for_children, call.who) if operation == "cancel" else None,
            record(call, operation, [resource_id]),
        )
        return _whole(call, ended)

    def _get_context(self, call: Call, resource_id: str) -> Reply:
        _offered(call.who, call.services.store.jobs.get(resource_id), "get-context")
        return Reply({})

    def _log(self, call: Call, resource_id: str) -> Reply:
        if call.method == "POST":
            return self._add_to_log(call, resource_id)
        document = call.services.store.jobs.get(resource_id)
        check(rights_held(call, document), Right.VIEW_DATA | Right.VIEW_ACL, resource_id)
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
        (receipt,) = call.services.store.claims.report([report], claim[2])
        if receipt is not ReportReceipt.ACCEPTED:
            raise ConflictError("the run that this token was made for is over")
        return Reply({"status": 200, "message": "added to the log", "resource-id": resource_id})


def waiting_times(call: Call, documents: Sequence[Document]) -> Mapping[str, Document]:
    """Return queue position and estimated wait of QUEUED jobs by id, if they were selected."""
    if not _tells_wait(call):
        return {}
    ids = [d["id"] for d in documents if d["state"] == JobState.QUEUED]
    return call.services.store.estimates.of(ids)


def _tells_wait(call: Call) -> bool:
    wanted = call.params.select
    return wanted is None or not wanted.isdisjoint(WAITING)


def _whole(call: Call, document: Document) -> Reply:
    """Return the answer with a job that was just written, as far as the caller may see it."""
    held = rights(call.who, document)
    seen = project(document, held, call.services.store.clock())
    return Reply(seen, headers={"ETag": etag_of(call, seen, held)})


def _may(who: Identity, needed: Right, document: Document) -> None:
    check(rights(who, document), needed, document["id"])


def _record_edit(call: Call, connection: Connection, before: Document, after: Document) -> None:
    """Record an edit in the audit trail, unless it only repeats a foreign consumer's progress."""
    if is_patch(call) or not _PROGRESS.issuperset(call.json_object()):
        record_edit(call, connection, before, after)


def _offered(who: Identity, document: Document, operation: str) -> None:
    offered = job_operations(document, rights(who, document), who)
    if operation not in {item["rel"] for item in offered}:
        raise refuse(document["id"])


def _merge(call: Call, before: Document, asked: Callable[[Document], Change]) -> Edit:
    """Make the new document of an edit (docs/cimi.md §1.9, §3.5)."""
    held = rights(call.who, before)
    require_match(call, before, held)
    change = asked(project(before, held, call.services.store.clock()))
    kept = keep_editable(change.body, held)
    ignored = _FIXED if call.who.is_admin else _FIXED | _ADMIN_ONLY
    kept = {k: v for k, v in kept.items() if k not in ignored}
    removed = set(keep_editable(dict.fromkeys(change.removed), held))
    removed -= _UNDELETABLE if call.who.is_admin else _UNDELETABLE | _ADMIN_ONLY
    after = {k: v for k, v in before.items() if k not in removed} | kept
    if isinstance(after.get("payload"), dict):
        after["payload"] = write_json(after["payload"])
    if "acl" in kept:
        after["acl"] = normal_acl(kept["acl"])
    validate(JobSchema, after, before["id"])
    # A client that sends the whole document back repeats RUNNING, which is no claim.
    echoed = "id" in change.body and before["state"] == JobState.RUNNING
    return Edit(after, claims=kept.get("state") == JobState.RUNNING and not echoed)


def require_post(call: Call, resource_id: str) -> None:
    """Refuse to change a job by GET: a link must not be able to."""
    if call.method != "POST":
        raise MethodNotAllowedError(call.method, call.path, ["POST"])
