"""The API's client: `nuvla.api.Api` with methods for jobs and uploads."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from job_engine.client.credentials import login_credentials, replaced_credentials
from job_engine.client.jobs import Job
from job_engine.client.retries import IDEMPOTENCY_KEY
from job_engine.client.services import ServiceCalls
from job_engine.client.transport import CHUNK, FileBody
from job_engine.errors import PlatformFaultError
from job_engine.model.timestamps import format_ms
from job_engine.settings import ConnectionSettings

BATCH: Final = 1_000
"""Default number of jobs in one request."""
BATCH_BYTES: Final = 8 * 2**20
"""Bytes of JSON in one request: half of the API's default limit."""
PAGE: Final = 500
_BY_CREATION: Final = {"created": ">", "created:asc": ">", "created:desc": "<"}
"""Orders in which a page can go on where the last one ended: how later jobs compare."""
_TAG: Final = re.compile(r'(?:W/)?"([0-9a-f]{64})"')

Document = dict[str, Any]
Payload = Mapping[str, Any] | BaseModel | str | None


class Api(ServiceCalls):
    """A `nuvla.api.Api` for this engine; threads may share it.

    The parent's methods work as usual, except that requests have time limits and are retried
    while the API does not answer, if that is safe. `Transport` documents arguments and errors.
    """

    @classmethod
    def from_settings(cls, settings: ConnectionSettings) -> Api:
        """Make a client that logs in with the key of these settings.

        A key that is refused is looked up again, so that it can be replaced in its file.
        """
        return cls(
            settings.api_url,
            credentials=login_credentials(settings),
            reread=partial(replaced_credentials, settings),
            insecure=settings.api_insecure,
            retry_s=settings.api_retry_s,
        )

    # --- jobs -------------------------------------------------------------------

    def submit(
        self, action: str, payload: Payload = None, *, key: str | None = None, **attributes: Any
    ) -> Job:
        """Create a job.

        `attributes` are those of the document, with underscores for dashes
        (`not_before="2030-01-01T00:00:00Z"`, or a `datetime` with its zone). A create whose
        answer is lost is sent again, and still makes one job. With a `key` of your own, that
        holds for as long as the API remembers it (24 hours), whichever process sends it.
        """
        body = job_document(action, payload, **attributes)
        made = self._create(body, key or str(uuid.uuid4()), {})
        return self._asked(str(made["resource-id"]), body)

    def submit_many(
        self, jobs: Iterable[Document], *, key: str | None = None, batch: int = BATCH
    ) -> list[Job]:
        """Create many jobs, in their order, `batch` in one request; see `job_document`.

        Those of one request are all created or none. With a `key` of your own, the same
        jobs sent again with it, after a crash halfway, make only what is missing.
        Raises `RefusedError` for the first request that is refused; those before it stand.
        """
        key = key or str(uuid.uuid4())
        made: list[Job] = []
        for number, bodies in enumerate(_batches(jobs, batch)):
            reply = self._create({"jobs": bodies}, f"{key}-{number}", {"bulk": "yes"})
            pairs = zip(reply["resource-ids"], bodies, strict=True)
            made += [self._asked(str(job), body) for job, body in pairs]
        return made

    def job(self, job_id: str) -> Job:
        """Read a job."""
        return Job(job_id, self.get(job_id).data, self)

    def jobs(self, where: str | None = None, orderby: str = "created:asc") -> Iterator[Job]:
        """Find jobs, page by page; `where` is a CIMI filter.

        By `created:asc` or `created:desc` each job is found once, however many there are, even
        if jobs are cancelled or deleted meanwhile. In any other order pages go by number: jobs
        that come or go meanwhile shift them, and after 10,000 jobs the API refuses.
        """
        sign = _BY_CREATION.get(orderby)
        if sign is None:
            yield from self._counted_off(where, orderby)
            return
        further = None
        while True:
            filters = [part for part in (where, further) if part is not None]
            found = self._page(filters, f"{orderby},id", 1)
            yield from found
            if len(found) < PAGE:
                return
            at, last = found[-1].document["created"], found[-1].id
            # Many have the same time; the first condition is what an index is for.
            further = f"created{sign}='{at}' and (created{sign}'{at}' or id>'{last}')"

    def _counted_off(self, where: str | None, orderby: str) -> Iterator[Job]:
        first = 1
        while found := self._page([] if where is None else [where], orderby, first):
            yield from found
            if len(found) < PAGE:
                return
            first += PAGE

    def _page(self, filters: Sequence[str], orderby: str, first: int) -> list[Job]:
        found = self.search(
            "job", filter=[*filters], orderby=orderby, first=first, last=first + PAGE - 1
        )
        return [Job(resource.id, resource.data, self) for resource in found.resources]

    def operate(self, resource_id: str, name: str, *, key: str | None = None) -> dict[str, Any]:
        """Run an operation without data, and return its answer."""
        headers = {} if key is None else {IDEMPOTENCY_KEY: key}
        answer: dict[str, Any] = self._cimi_request(
            "POST", f"{resource_id}/{name}", headers=headers
        )
        return answer

    def _create(self, body: Document, key: str, headers: dict[str, str]) -> Document:
        headers = {**headers, IDEMPOTENCY_KEY: key}
        answer: Document = self._cimi_request("POST", "job", json=body, headers=headers)
        return answer

    def _asked(self, job_id: str, body: Document) -> Job:
        return Job(job_id, {"state": "QUEUED", "progress": 0, **body, "id": job_id}, self)

    # --- blobs ------------------------------------------------------------------

    def upload_blob(self, path: Path | str) -> str:
        """Upload a file; return its digest, `sha256:<hex>`. Raises `OSError` if unreadable."""
        path = Path(path)
        path.open("rb").close()  # what cannot be read is no fault of the API's
        headers = {"Content-Type": "application/octet-stream"}
        reply = self._call("POST", "blob", data=FileBody(path), headers=headers).json()
        return str(reply["digest"])

    def download_blob(self, digest: str, target: Path | str) -> None:
        """Write a blob to `target`, and check it against its digest on the way.

        Raises `PlatformFaultError` if the content does not match the digest.
        """
        name = digest.removeprefix("sha256:")
        self._download(f"blob/{name}/content", Path(target), name)

    def download_submission(self, job_id: str, target: Path | str) -> None:
        """Write the archive that was handed in with a job to `target`; for the job's staff.

        Raises `RefusedError` where there is none, and as `download_blob` does.
        """
        self._download(f"{job_id}/submission", Path(target))

    def _download(self, path: str, target: Path, digest: str | None = None) -> None:
        with self._call("GET", path, stream=True) as response:
            running = hashlib.sha256()
            with target.open("wb") as sink:
                for chunk in response.iter_content(CHUNK):
                    running.update(chunk)
                    sink.write(chunk)
        # The tag of an upload is its digest, unless a proxy has changed or dropped it.
        tag = _TAG.fullmatch(response.headers.get("ETag", ""))
        expected = digest or (tag and tag[1])
        if expected and running.hexdigest() != expected:
            target.unlink()
            raise PlatformFaultError(f"What is at {path} arrived damaged.")


def job_document(action: str, payload: Payload = None, **attributes: Any) -> Document:
    """Make the document of a new job; `attributes` have underscores for dashes.

    Raises `TypeError` and `ValueError` for a payload that JSON cannot represent.
    """
    document: Document = {"action": action}
    if isinstance(payload, BaseModel):
        document["payload"] = payload.model_dump_json(exclude_none=True)
    elif isinstance(payload, str):
        document["payload"] = payload
    elif payload is not None:
        document["payload"] = json.dumps(payload, allow_nan=False)
    given = {k.replace("_", "-"): _sent(v) for k, v in attributes.items() if v is not None}
    return {**document, **given}


def _sent(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ValueError(f"{value} has no time zone: write datetime.now(UTC), say")
    return format_ms(round(value.timestamp() * 1000))


def _batches(jobs: Iterable[Document], most: int) -> Iterator[list[Document]]:
    """Yield the jobs in lists that one request can carry."""
    batch: list[Document] = []
    held = 0
    for job in jobs:
        size = len(json.dumps(job))
        if batch and (len(batch) == most or held + size > BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(job)
        held += size
    if batch:
        yield batch
