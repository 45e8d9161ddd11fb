"""Uploads: streamed, limited, named by their content, and nobody else's business."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from job_engine.grading.archive import pack_directory
from job_engine.grading.policy import terms_of
from job_engine.model.protocol.actions import ActionDescription
from job_engine.settings import ApiSettings, GradingSettings, PolicySettings
from tests.unit.api.support import (
    ADMIN,
    ANON,
    EXECUTOR,
    JANE,
    JOE,
    TEACHER,
    Client,
    operations,
    refused,
)

OCTETS = {"content-type": "application/octet-stream"}


def upload(api: Client, who: str, content: bytes, path: str = "blob") -> str:
    reply = api(who, "POST", path, content=content, headers=OCTETS)
    assert reply.status_code == 201, reply.text
    digest = hashlib.sha256(content).hexdigest()
    blob = f"blob/{digest}"
    assert reply.headers["location"] == blob
    assert reply.json() == {
        "status": 201,
        "message": f"{blob} created",
        "resource-id": blob,
        "digest": f"sha256:{digest}",
        "size": len(content),
    }
    return blob


def test_up_and_down(api: Client) -> None:
    blob = upload(api, JANE, b"hello", "blob?name=a%2Fb.zip")
    document = api.get(blob, JANE)
    assert (document["size"], document["name"]) == (5, "a/b.zip")
    assert document["created-by"] == "user/jane"
    assert operations(document) == ["delete", "content"]
    refused(api(EXECUTOR, "GET", f"{blob}/content"), 404, "not found")
    api.run_job(payload=json.dumps({"archive": blob.replace("blob/", "sha256:")}))
    for who in (JANE, ADMIN, EXECUTOR):
        reply = api(who, "GET", f"{blob}/content")
        assert reply.content == b"hello"
        assert reply.headers["content-type"] == "application/octet-stream"
        assert reply.headers["content-disposition"] == 'attachment; filename="b.zip"'
        assert reply.headers["cache-control"] == "private, no-cache"
        assert reply.headers["x-content-type-options"] == "nosniff"


def test_large_ones_are_streamed_in_pieces(api: Client) -> None:
    def pieces() -> Iterator[bytes]:
        for n in range(99):
            yield bytes([n]) * 1000

    reply = api(JANE, "POST", "blob", content=pieces(), headers=OCTETS)
    content = b"".join(pieces())
    assert reply.json()["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert api(JANE, "GET", f"{reply.json()['resource-id']}/content").content == content


def test_the_limit_holds_with_and_without_a_length(api: Client, settings: ApiSettings) -> None:
    too_large = b"x" * (settings.max_blob_bytes + 1)
    reply = api(JANE, "POST", "blob", content=too_large, headers=OCTETS)
    refused(reply, 413, "limit of 100000 bytes")
    reply = api(JANE, "POST", "blob", content=iter([too_large]), headers=OCTETS)
    refused(reply, 413, "limit of 100000 bytes")
    reply = api(JANE, "POST", "blob", files={"file": ("x", too_large)})
    refused(reply, 413, "limit of 100000 bytes")
    assert list((settings.blobs / "incoming").iterdir()) == []


def test_forms(api: Client) -> None:
    content = b"PK\x03\x04 not really\r\n--zip"
    reply = api(JANE, "POST", "blob", files={"other": b"z", "file": ("h\u00e9.zip", content)})
    assert reply.status_code == 201, reply.text
    blob = reply.json()["resource-id"]
    assert api(JANE, "GET", f"{blob}/content").content == content
    assert api.get(blob, JANE)["name"] == "h\u00e9.zip"
    refused(api(JANE, "POST", "blob", files={"other": b"z"}), 400, "no field `file`")
    broken = {"content-type": "multipart/form-data; boundary=x"}
    refused(api(JANE, "POST", "blob", content=b"nonsense", headers=broken), 400, "multipart")


def test_a_forms_type_is_read_in_any_case(api: Client) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nin\r\n--x--\r\n'
    )
    headers = {"content-type": "Multipart/Form-Data; boundary=x"}
    blob = api(JANE, "POST", "blob", content=body, headers=headers).json()["resource-id"]
    assert api(JANE, "GET", f"{blob}/content").content == b"in"


def test_an_upload_is_not_unpacked(api: Client) -> None:
    headers = {**OCTETS, "content-encoding": "gzip"}
    refused(api(JANE, "POST", "blob", content=b"x", headers=headers), 415, "Content-Encoding")


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [("0-0", 206, b"h"), ("-2", 206, b"lo"), ("2-", 206, b"llo"), ("9-", 416, b"")],
)
def test_parts_are_downloaded(api: Client, asked: str, status: int, content: bytes) -> None:
    blob = upload(api, JANE, b"hello")
    reply = api(JANE, "GET", f"{blob}/content", headers={"range": f"bytes={asked}"})
    assert (reply.status_code, reply.content) == (status, content)


def test_other_bodies_are_no_uploads(api: Client) -> None:
    refused(api(JANE, "POST", "blob", {"a": 1}), 400, "application/octet-stream")


def test_anonymous_uploads_are_refused(api: Client, settings: ApiSettings) -> None:
    before = sorted(settings.blobs.rglob("*"))
    refused(api(ANON, "POST", "blob", content=b"anonymous", headers=OCTETS), 403, "credentials")
    assert sorted(settings.blobs.rglob("*")) == before
    refused(api(ANON, "GET", f"blob/{'0' * 64}/content"), 403, "invalid credentials")


def test_a_refused_upload_hears_why_also_when_it_is_large(api: Client) -> None:
    large = b"x" * 99_000
    for _ in range(20):
        reply = api(ANON, "POST", "blob", content=iter([large]), headers=OCTETS)
        refused(reply, 403, "credentials required")
    refused(api(JANE, "POST", "blob", content=b"", headers=OCTETS), 400, "the upload is empty")


def test_identical_content_reveals_and_grants_nothing(api: Client) -> None:
    """That somebody handed in the same file is not another student's to know."""
    content = b"the solution"
    blob = upload(api, JANE, content)
    for path in (blob, f"{blob}/content"):
        refused(api(JOE, "GET", path), 404, "not found")
    refused(api(JOE, "DELETE", blob), 404, "not found")
    assert api.count(JOE, "id!=null", "blob") == 0
    assert upload(api, JOE, content) == blob  # the answer is that of a new upload
    mine, hers = api.get(blob, JOE), api.get(blob, JANE)
    assert "jane" not in json.dumps(mine)
    assert "joe" not in json.dumps(hers)
    assert api.count(JOE, "id!=null", "blob") == 1
    assert api(JANE, "DELETE", blob).status_code == 200
    refused(api(JANE, "GET", blob), 404, "not found")
    assert api(JOE, "GET", f"{blob}/content").content == content
    assert api(JOE, "DELETE", blob).status_code == 200
    refused(api(ADMIN, "GET", f"{blob}/content"), 404, "not found")


def test_uploading_again_is_the_same_blob(api: Client) -> None:
    blob = upload(api, JANE, b"again")
    created = api.get(blob, JANE)["created"]
    assert upload(api, JANE, b"again") == blob
    assert api.get(blob, JANE)["created"] == created


@pytest.mark.parametrize("name", ["..", "x", "0" * 63, "G" * 64, "..%2f..%2fstore.sqlite"])
def test_names_that_are_no_digests(api: Client, name: str) -> None:
    assert api(ADMIN, "GET", f"blob/{name}/content").status_code in (404, 405)


# --- assignments ---------------------------------------------------------------


def publish(api: Client, who: str, name: str, digest: str, **more: object) -> str:
    body = {"name": name, "digest": digest, **more}
    reply = api(who, "POST", "assignment", body)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["resource-id"])


def test_assignments_have_versions(api: Client) -> None:
    blob = upload(api, TEACHER, b"bundle")
    digest = f"sha256:{blob.partition('/')[2]}"
    first = publish(api, TEACHER, "sorting", digest, document={"image": "x"})
    second = publish(api, TEACHER, "sorting", digest)
    assert [api.get(a)["version"] for a in (first, second)] == [1, 2]
    again = {"name": "sorting", "digest": digest, "version": 2}
    refused(api(TEACHER, "POST", "assignment", again), 409, "conflict with")
    assert api.count(EXECUTOR, "name='sorting'", "assignment") == 0
    refused(api(EXECUTOR, "GET", f"{blob}/content"), 404, "not found")
    job = api.run_job(payload='{"assignment": "sorting"}')
    found = api(EXECUTOR, "GET", "assignment?filter=name='sorting'").json()
    assert found["count"] == 2
    assert found["resources"][0]["digest"] == digest
    assert api(EXECUTOR, "GET", f"{blob}/content").content == b"bundle"
    assert api(ADMIN, "DELETE", job).status_code == 200
    assert api.count(EXECUTOR, "name='sorting'", "assignment") == 0
    edited = api(TEACHER, "PUT", first, {"digest": "sha256:" + "0" * 64, "description": "d"})
    assert edited.json()["digest"] == digest
    assert edited.json()["description"] == "d"
    refused(api(TEACHER, "DELETE", blob), 409, "is the bundle of assignment/")


def test_a_name_belongs_to_its_first_publisher(api: Client) -> None:
    other = "user/o user/o user/o group/nuvla-user group/job-teacher"
    mine, theirs = upload(api, TEACHER, b"mine"), upload(api, other, b"theirs")
    publish(api, TEACHER, "begun", f"sha256:{mine.partition('/')[2]}")
    body = {"name": "begun", "digest": f"sha256:{theirs.partition('/')[2]}"}
    refused(api(other, "POST", "assignment", body), 403, "taken by another user")
    assert api(ADMIN, "POST", "assignment", body).status_code == 201


def test_an_assignment_that_no_executor_would_take_is_refused(api: Client, tmp_path: Path) -> None:
    text = b"name: a\nphases:\n  test: {command: x, kvm: true}\nresults: {format: stdout}\n"
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "t").write_bytes(b"")
    (tmp_path / "assignment.yaml").write_bytes(text)
    with pack_directory(tmp_path) as packed:
        blob = upload(api, TEACHER, packed.stream.read())
    body = {"name": "a", "digest": f"sha256:{blob.partition('/')[2]}"}

    def tell(executor: str, **policy: object) -> None:
        terms = terms_of(PolicySettings(**policy), GradingSettings())  # type: ignore[arg-type]
        described = ActionDescription(
            name="grade", payload_schema={}, timeout_s=1, terms={executor: terms}
        )
        message = {"actions": [described.model_dump(mode="json")]}
        assert api(EXECUTOR, "PUT", "engine/actions", message).is_success

    tell("one")
    refused(api(TEACHER, "POST", "assignment", body), 400, "line 3: phases.test.kvm")
    broken = upload(api, TEACHER, b"no bundle")
    taken = {"name": "b", "digest": f"sha256:{broken.partition('/')[2]}"}
    assert api(TEACHER, "POST", "assignment", taken).status_code == 201
    tell("two", allow_kvm=True)
    assert api(TEACHER, "POST", "assignment", body).status_code == 201
    tell("two", allow_kvm=True, max_processes=1)
    refused(api(TEACHER, "POST", "assignment", body), 400, "allow_kvm")


def test_a_payload_names_ones_own_uploads(api: Client) -> None:
    """Executors read every blob: a digest must not be enough to have it graded as one's own."""
    hers = upload(api, JANE, b"her homework")
    submitter = "user/s user/s user/s group/nuvla-user group/job-submitter"
    own = upload(api, submitter, b"his homework")

    def submit(blob: str) -> httpx.Response:
        payload = {"assignment": "x", "submission": {"archive": {"blob": blob}}}
        return api(submitter, "POST", "job", {"action": "grade", "payload": payload})

    for name in (hers, f"sha256:{hers.partition('/')[2]}", "sha256:" + "0" * 64):
        refused(submit(name), 400, "no upload")
    written_otherwise = f'{{"\\u0062lob": "sha256:{hers.partition("/")[2]}"}}'
    body = {"action": "grade", "payload": written_otherwise}
    refused(api(submitter, "POST", "job", body), 400, "no upload")
    assert submit(own).status_code == 201
    assert api(ADMIN, "POST", "job", {"action": "grade", "payload": {"blob": hers}}).is_success


def test_students_never_read_an_assignment(api: Client) -> None:
    blob = upload(api, TEACHER, b"the tests")
    assignment = publish(api, TEACHER, "secret", f"sha256:{blob.partition('/')[2]}")
    refused(api(JANE, "GET", assignment), 403, "invalid credentials")
    refused(api(JANE, "GET", f"{blob}/content"), 404, "not found")
    assert api.count(JANE, "name='secret'", "assignment") == 0
    refused(api(JANE, "POST", "assignment", {"name": "x"}), 403, "credentials required")


def test_assignments_that_will_not_do(api: Client) -> None:
    digest = f"sha256:{'0' * 64}"
    missing = {"name": "x", "digest": digest}
    refused(api(TEACHER, "POST", "assignment", missing), 400, "upload it first")
    refused(api(TEACHER, "POST", "assignment", {"name": "x", "digest": "abc"}), 400, "digest")
    refused(api(TEACHER, "POST", "assignment", {**missing, "odd": 1}), 400, "odd: unknown")
