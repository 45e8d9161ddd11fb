"""What a student may hand in, and what they get of it: no more than their assignment shows."""

from __future__ import annotations

import json
import uuid
from typing import Any, Final

import pytest

from tests.contract.access.subjects import WHO, World
from tests.contract.access.test_verdicts import (
    _CHANGING,
    OPEN,
    QUESTIONS,
    READS,
    SECRET,
    grade,
    verdict,
)
from tests.unit.api.support import ADMIN, refused

STUDENT: Final = "student"
MATES: Final = ["user/student", "user/classmate"]
FILES: Final = {"files": {"solution.py": "print(42)"}}


def publish(world: World, name: str, shared: bool = True) -> str:
    """Publish an assignment as the teacher; return its digest."""
    headers = {"content-type": "application/octet-stream"}
    blob = world.api(WHO["teacher"], "POST", "blob", content=uuid.uuid4().bytes, headers=headers)
    digest = f"sha256:{blob.json()['resource-id'].partition('/')[2]}"
    acl = {"owners": ["user/teacher"]}
    if shared:
        acl["view-meta"] = ["user/student"]
    made = world.api(
        WHO["teacher"], "POST", "assignment", {"name": name, "digest": digest, "acl": acl}
    )
    assert made.status_code == 201, made.text
    return digest


@pytest.fixture
def assignment(world: World) -> str:
    name = uuid.uuid4().hex
    publish(world, name)
    return name


def handed_in(world: World, assignment: str, **changes: Any) -> Any:
    """Answer to a student's job; changes are of the job's attributes."""
    payload = {"assignment": assignment, "submission": FILES}
    body = {"action": "grade", "payload": payload, **changes}
    return world.api(WHO[STUDENT], "POST", "job", body)


def job_of(world: World, assignment: str, **changes: Any) -> str:
    made = handed_in(world, assignment, **changes)
    assert made.status_code == 201, made.text
    return str(made.json()["resource-id"])


def test_a_student_cannot_infer_hidden_tests_of_their_own_job(
    world: World, assignment: str
) -> None:
    jobs = [job_of(world, assignment), job_of(world, assignment)]
    grade(world, jobs[0], verdict(SECRET, 9))
    grade(world, jobs[1], verdict("plugh", 3), "plugh")
    for way, read in {**READS, **QUESTIONS}.items():
        one, other = (read(world, STUDENT, job) for job in jobs)
        assert SECRET not in one, way
        assert _CHANGING.sub("", one) == _CHANGING.sub("", other), way
    assert OPEN in READS["get-output"](world, STUDENT, jobs[0])
    assert world.api.get(jobs[0], WHO[STUDENT]).get("operations", []) == []


def test_managers_of_an_assignment_manage_the_jobs_of_its_students(
    world: World, assignment: str
) -> None:
    job = job_of(world, assignment)
    grade(world, job, verdict(SECRET, 9))
    for way in ("get", "stream", "search"):
        assert SECRET in READS[way](world, "teacher", job), way
    document = world.api.get(job, WHO["teacher"])
    assert json.loads(document["payload"])["student"] == "user/student"
    assert document["created-by"] == "user/student"
    other = job_of(world, assignment)
    # What came of it is nobody's to write.
    world.api(WHO["teacher"], "PUT", other, {"output": "{}", "state": "SUCCESS"})
    kept = world.api.get(other, ADMIN)
    assert (kept["state"], "output" in kept) == ("QUEUED", False)
    assert world.api(WHO["teacher"], "POST", f"{other}/cancel").status_code == 200


@pytest.mark.parametrize("role", ["user", "submitter", "member"])
def test_nobody_else_sees_it(world: World, assignment: str, role: str) -> None:
    refused(world.api(WHO[role], "GET", job_of(world, assignment)), 403, "credentials")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"acl": {"owners": ["user/student"]}}, "acl"),
        ({"priority": 0}, "priority"),
        ({"parent": "course/other"}, "parent"),
        ({"created-by": "user/jane"}, "created-by"),
        ({"callbacks": [{"url": "https://93.184.215.14/"}]}, "callbacks"),
        ({"execution-mode": "pull"}, "execution-mode"),
        ({"output": "{}"}, "output"),
        ({"state": "SUCCESS"}, "state"),
        ({"payload": {"student": "jane"}}, "payload/student"),
        ({"payload": {"due": "2999-01-01T00:00:00Z"}}, "payload/due"),
        ({"payload": {"metadata": {"users": []}}}, "payload/metadata"),
        ({"payload": {"submission": {"git": {"credential": "staff"}}}}, "credential"),
        ({"payload": '{"replay": {}}'}, "payload/replay"),
        ({"payload": "[]"}, "must be an object"),
        ({"payload": "{"}, "must be an object"),
        ({"payload": None}, "must be an object"),
        ({"payload": {"assignment": 7}}, "payload/assignment"),
        ({"payload": '{"assignment": "\\ud800"}'}, "payload/assignment"),
    ],
)
def test_attributes_that_students_cannot_set_are_refused(
    world: World, assignment: str, changes: dict[str, Any], named: str
) -> None:
    refused(handed_in(world, assignment, **changes), 400, named)


def test_a_text_may_spell_what_cannot_be_stored(world: World, assignment: str) -> None:
    text = json.dumps({"assignment": assignment, "submission": {"files": {"a": "\ud800"}}})
    job = job_of(world, assignment, payload=text)
    assert "\\ud800" in world.api.get(job, ADMIN)["payload"]


def test_students_create_no_other_jobs(world: World, assignment: str) -> None:
    for action in ("noop", "run_command", "cleanup_jobs", None):
        refused(handed_in(world, assignment, action=action), 403, "'grade' only")
    body = {"jobs": [{"action": "grade"}]}
    refused(
        world.api(WHO[STUDENT], "POST", "job", body, headers={"bulk": "true"}), 403, "credentials"
    )


def test_an_assignment_has_to_be_shared(world: World) -> None:
    name = uuid.uuid4().hex
    digest = publish(world, name)
    job_of(world, name)
    job_of(world, digest)
    # A newer version, for next year's course, closes the name.
    secret = publish(world, name, shared=False)
    for asked in (name, secret, uuid.uuid4().hex, f"sha256:{'0' * 64}"):
        refused(handed_in(world, asked), 400, "shared with you")
    job_of(world, digest)


def test_a_job_keeps_the_version_that_was_newest_when_it_was_created(world: World) -> None:
    name = uuid.uuid4().hex
    digest = publish(world, name)
    job = job_of(world, name)
    publish(world, name, shared=False)
    assert json.loads(world.api.get(job, ADMIN)["payload"])["assignment"] == digest


def test_a_student_can_cancel_a_waiting_job_of_their_own(world: World, assignment: str) -> None:
    job = job_of(world, assignment)
    offered = [{"rel": "cancel", "href": f"{job}/cancel"}]
    assert world.api.get(job, WHO[STUDENT])["operations"] == offered
    classmate = WHO[STUDENT].replace("user/student", "user/classmate")
    world.api(ADMIN, "PUT", job, {"acl": {"owners": ["group/nuvla-admin"], "view-data": MATES}})
    assert "operations" not in world.api.get(job, classmate)
    refused(world.api(classmate, "POST", f"{job}/cancel"), 403, "invalid credentials")
    refused(world.api(WHO[STUDENT], "POST", f"{job}/timeout"), 403, "invalid credentials")
    refused(world.api(WHO[STUDENT], "DELETE", job), 403, "invalid credentials")

    ended = world.api(WHO[STUDENT], "POST", f"{job}/cancel").json()
    assert (ended["state"], "acl" in ended, "started" in ended) == ("CANCELED", False, False)
    assert "operations" not in world.api.get(job, WHO[STUDENT])
    refused(world.api(WHO[STUDENT], "POST", f"{job}/cancel"), 403, "invalid credentials")
    refused(world.api(WHO[STUDENT], "POST", f"{job}/resubmit"), 403, "invalid credentials")


@pytest.mark.parametrize("again", ["RUNNING", "QUEUED"])
def test_a_student_cannot_cancel_a_started_job(world: World, assignment: str, again: str) -> None:
    """Nor once it waits for its next attempt: they have seen some of the first."""
    job = job_of(world, assignment)
    for state in ("RUNNING", again):
        assert world.api(ADMIN, "PUT", job, {"state": state}).status_code == 200
    assert "operations" not in world.api.get(job, WHO[STUDENT])
    refused(world.api(WHO[STUDENT], "POST", f"{job}/cancel"), 403, "invalid credentials")
    assert world.api.get(job, ADMIN)["state"] == again


def archive_of(world: World, who: str, job: str) -> Any:
    return world.api(who, "GET", f"{job}/submission")


def test_staff_of_the_assignment_reads_the_archive(world: World, assignment: str) -> None:
    blob = world.blob(STUDENT)
    payload = {"assignment": assignment, "submission": {"archive": {"blob": blob}}}
    job = job_of(world, assignment, payload=payload)
    content = world.api(WHO[STUDENT], "GET", f"{blob}/content").content
    for role in ("teacher", STUDENT, "admin"):
        reply = archive_of(world, WHO[role], job)
        assert (reply.status_code, reply.content) == (200, content), role
        assert "attachment" in reply.headers["content-disposition"]
    assert world.api(WHO["teacher"], "HEAD", f"{job}/submission").status_code == 200
    tag = {"If-None-Match": reply.headers["etag"]}
    assert world.api(WHO["teacher"], "GET", f"{job}/submission", headers=tag).status_code == 304
    # By the job alone: the upload stays its owner's.
    refused(world.api(WHO["teacher"], "GET", f"{blob}/content"), 404, "not found")
    for role in ("anonymous", "user", "submitter", "member", "executor", "distributor"):
        refused(archive_of(world, WHO[role], job), 403, "invalid credentials")

    shared = {"owners": ["group/nuvla-admin"], "view-data": MATES, "manage": ["user/member"]}
    world.api(ADMIN, "PUT", job, {"acl": shared})
    classmate = WHO[STUDENT].replace("user/student", "user/classmate")
    refused(archive_of(world, classmate, job), 404, "no upload that you may read")
    refused(archive_of(world, WHO["member"], job), 403, "invalid credentials")


def test_no_job_shows_its_staff_what_its_creator_did_not_upload(world: World) -> None:
    theirs, mine = world.blob(STUDENT), world.blob("submitter")
    who = WHO["submitter"]
    told = {"note": theirs, "files": {"x": theirs.partition("/")[2]}}
    job = world.api.add_job(who, payload=json.dumps(told))
    refused(archive_of(world, who, job), 404, "no upload that you may read")
    # Not by an edit either, which an admin let somebody make.
    job = world.api.add_job(who, payload=json.dumps({"blob": mine}))
    editor = {"owners": ["group/nuvla-admin"], "edit-data": ["user/edit-data"]}
    world.api(ADMIN, "PUT", job, {"acl": editor})
    assert archive_of(world, WHO["edit-data"], job).status_code == 200
    changed = world.api(WHO["edit-data"], "PUT", job, {"payload": json.dumps({"blob": theirs})})
    assert changed.status_code == 200
    refused(archive_of(world, WHO["edit-data"], job), 404, "no upload that you may read")
    for payload in (None, "text", '{"blob": "sha256:0"}'):
        job = world.api.add_job(who, **({"payload": payload} if payload else {}))
        refused(archive_of(world, who, job), 404, "no upload that you may read")
    refused(archive_of(world, who, "job/none"), 404, "job/none not found")


def test_the_submitted_archive_is_read_where_the_metadata_names_another_upload(
    world: World,
) -> None:
    submitted, other = world.blob("submitter"), world.blob("submitter")
    who = WHO["submitter"]
    payload = {"submission": {"archive": {"blob": submitted}}, "metadata": {"blob": other}}
    job = world.api.add_job(who, payload=json.dumps(payload))
    content = world.api(who, "GET", f"{submitted}/content").content
    assert archive_of(world, who, job).content == content
    # Of other actions nothing says which of two is meant.
    job = world.api.add_job(who, payload=json.dumps([{"blob": submitted}, {"blob": other}]))
    refused(archive_of(world, who, job), 404, "no upload that you may read")


def test_staff_reads_what_was_uploaded_while_acting_as_a_group(world: World) -> None:
    acting = f"{WHO['submitter']} group/course".replace(
        "user/submitter user/submitter", "user/submitter group/course", 1
    )
    headers = {"content-type": "application/octet-stream"}
    reply = world.api(acting, "POST", "blob", content=uuid.uuid4().bytes, headers=headers)
    blob = reply.json()["resource-id"]
    acl = {"manage": ["user/teacher"], "view-data": ["user/teacher"]}
    job = world.api.add_job(acting, payload=json.dumps({"blob": blob}), acl=acl)
    for reader in (acting, WHO["teacher"], WHO["admin"]):
        assert archive_of(world, reader, job).status_code == 200, reader
    # Whoever may edit the ACL could name any manager, and any digest in the payload.
    world.api(
        ADMIN, "PUT", job, {"acl": {**acl, "owners": ["user/editor"], "manage": ["group/course"]}}
    )
    editor = WHO["member"].replace("user/member", "user/editor")
    refused(archive_of(world, editor, job), 404, "no upload that you may read")


def test_who_acts_as_all_students_shows_their_work_to_none_of_them(
    world: World, assignment: str
) -> None:
    acting = WHO[STUDENT].replace("user/student user/student", "user/student group/job-student", 1)
    assert acting != WHO[STUDENT]
    payload = {"assignment": assignment, "submission": FILES}
    made = world.api(acting, "POST", "job", {"action": "grade", "payload": payload})
    assert made.status_code == 201, made.text
    document = world.api.get(made.json()["resource-id"], ADMIN)
    assert document["acl"]["view-data"] == ["user/student", "user/teacher"]


def test_a_student_cannot_hand_in_the_upload_of_another_user(world: World, assignment: str) -> None:
    payload = {
        "assignment": assignment,
        "submission": {"archive": {"blob": world.blob()}},
    }
    refused(handed_in(world, assignment, payload=payload), 400, "no upload")


def test_a_student_with_the_role_submitter_counts_as_a_submitter(world: World) -> None:
    both = f"{WHO[STUDENT]} group/job-submitter"
    job = world.api.add_job(both, priority=5)
    assert world.api.get(job, ADMIN)["acl"]["manage"] == ["user/student"]
