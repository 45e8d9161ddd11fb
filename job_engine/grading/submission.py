"""The payload of a `grade` job, and turning its submission into a workspace."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from job_engine.errors import ApiError, ApiUnavailableError, ArchiveError, SubmissionError
from job_engine.grading.archive import ArchiveLimits, Collector, Unpacked, unpack
from job_engine.grading.bundles import BlobSource
from job_engine.grading.fields import StrictModel

MAX_INLINE_FILES: Final = 256

_REF: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def check_url(url: str) -> str:
    """Return `url` if git may fetch it: http or https, a plain host, no credentials."""
    if any(c.isspace() or not c.isprintable() for c in url) or "\\" in url:
        raise ValueError("the URL holds spaces or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"the URL cannot be read: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(
            "only https:// and http:// repositories can be fetched; "
            "write git@host:path as https://host/path"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "the URL must hold no user or password; name a credential of the operator's instead"
        )
    if not parts.hostname or not _HOST.fullmatch(parts.hostname) or port == 0:
        raise ValueError("the URL names no host")
    if parts.query or parts.fragment or not parts.path.strip("/"):
        raise ValueError("the URL must name a repository, without '?' or '#'")
    return url


def _ref(ref: str) -> str:
    bad = ".." in ref or "//" in ref or "@{" in ref or ref.endswith((".", "/", ".lock"))
    if not _REF.fullmatch(ref) or bad:
        raise ValueError("that is no name of a branch or tag")
    return ref


class GitSource(StrictModel):
    """A repository with a commit (recommended, because it is fixed), a ref, or neither for HEAD."""

    url: Annotated[str, StringConstraints(max_length=2048), AfterValidator(check_url)]
    commit: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")] | None = (
        None
    )
    ref: Annotated[str, StringConstraints(max_length=255), AfterValidator(_ref)] | None = None
    credential: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None
    ) = None
    """Name of an operator's secret; never the secret itself."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.commit is not None and self.ref is not None:
            raise ValueError("give a commit or a ref, not both")
        return self

    @property
    def wanted(self) -> str:
        """The commit or ref to fetch."""
        return self.commit or self.ref or "HEAD"

    def address(self) -> tuple[str, int]:
        """Return host and port: all that the clone phase may reach."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def _blob(value: str) -> str:
    return f"sha256:{value.removeprefix('sha256:').removeprefix('blob/')}"


class ArchiveSource(StrictModel):
    """An archive that was uploaded to `POST /api/blob`."""

    blob: Annotated[
        str,
        StringConstraints(pattern=r"^(sha256:|blob/)[0-9a-f]{64}$"),
        AfterValidator(_blob),
    ]


class Base64File(StrictModel):
    """A file whose content is not text."""

    base64: str


FileName = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class Submission(StrictModel):
    """What is graded: exactly one of a repository, an uploaded archive, and files."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    git: GitSource | None = None
    archive: ArchiveSource | None = None
    files: (
        Annotated[
            dict[FileName, str | Base64File], Field(min_length=1, max_length=MAX_INLINE_FILES)
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        sources = (self.git, self.archive, self.files)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("a submission is exactly one of git, archive and files")
        return self


class Replay(StrictModel):
    """Values of an earlier receipt that must be the same; otherwise the run is refused."""

    job: Annotated[str, StringConstraints(max_length=64)]
    """The job that is replayed, for people."""
    assignment: str
    tests: str
    sandbox: str
    images: dict[str, str]
    limits: dict[str, dict[str, int | float]]


class GradePayload(StrictModel):
    """The payload of a `grade` job."""

    assignment: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    """`sha256:<hex>` of the bundle, which pins it; or a name, resolved when the job runs."""
    submission: Submission
    student: Annotated[str, StringConstraints(max_length=256)] | None = None
    """Who submitted it; not interpreted by the engine."""
    due: datetime | None = None
    """When it was due; stored with the results."""
    replay: Replay | None = None
    """Set by `job-engine replay`: run only if it is the same again."""
    metadata: dict[str, JsonValue] = {}
    """Further metadata for a contract's grader: keys of Gradescope's `submission_metadata.json`,
    or of PrairieLearn's `data.json`."""


@contextmanager
def workspace_of(
    submission: Submission,
    source: BlobSource,
    limits: ArchiveLimits,
    *,
    strip: bool,
    scratch: Path,
) -> Iterator[Unpacked | None]:
    """Yield the clean tree of an archive or of inline files; None for git, which is cloned.

    Raises `SubmissionError` or `ArchiveError` with a message for the submitter.
    """
    if submission.archive is not None:
        blob = scratch / "submission"
        _download(source, submission.archive.blob, blob)
        with blob.open("rb") as file:
            made = unpack(file, limits=limits, strip=strip, spool_dir=scratch)
        blob.unlink()
        with made:
            yield made
    elif submission.files is not None:
        with pack_inline(submission.files, limits, scratch) as made:
            yield made
    else:
        yield None


def _download(source: BlobSource, digest: str, target: Path) -> None:
    try:
        source.download_blob(digest, target)
    except ApiUnavailableError:
        raise
    except ApiError as error:
        raise SubmissionError(
            f"The submission's archive {digest} cannot be read ({error.message}). "
            "Upload it to /api/blob, and name the digest from the answer."
        ) from error


def pack_inline(
    files: dict[str, str | Base64File], limits: ArchiveLimits, scratch: Path
) -> Unpacked:
    """Return the clean tree of files that came with a payload; raises `SubmissionError`."""
    collector = Collector(limits, limits.max_bytes, scratch)
    try:
        for name, content in files.items():
            collector.file(name, executable=False, chunks=[_bytes(name, content)])
        return collector.finish()
    except ArchiveError as error:
        raise SubmissionError(error.message.replace("The archive", "The submission")) from error
    finally:
        collector.close()


def _bytes(name: str, content: str | Base64File) -> bytes:
    try:
        if isinstance(content, str):
            return content.encode()
        return base64.b64decode(content.base64, validate=True)
    except (binascii.Error, ValueError):
        raise SubmissionError(f"The content of the file {name!a} cannot be decoded.") from None
