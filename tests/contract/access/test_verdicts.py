"""Every way to read a verdict, by every role: only staff learn of a hidden test.

Two jobs differ only in what is hidden. So everything that other roles read of one job has to
equal, word for word, what they read of the other.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import pytest

from job_engine.client.jobs import Job
from job_engine.grading.results import Outcome, Results, TestResult, Visibility, to_json
from job_engine.model import FinalVerdict
from tests.contract.access.expectations import ROLES
from tests.contract.access.subjects import ACL, WHO, World
from tests.support.receipts import make_receipt
from tests.unit.api.support import ADMIN

STAFF: Final = frozenset({"owner", "edit-data", "edit-acl", "admin"})
"""Who manages or edits the job, and sees its data."""
READERS: Final = frozenset({"view-data", "view-acl", "member"})
STUDENTS: Final = frozenset(ROLES - STAFF)
SECRET: Final = "xyzzy"
OPEN: Final = "counts words"
LATE: Final = "counts late"
_CHANGING: Final = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+Z|event/\d+|\"count\": ?\d+|entry-999-\d+|[0-9a-f]{32}"
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)


def verdict(secret: str, score: float, due: datetime | None = None) -> Results:
    return Results(
        outcome=Outcome.GRADED,
        verdict=FinalVerdict.WRONG_ANSWER,
        fault=FinalVerdict.WRONG_ANSWER.fault,
        message=f"Score {score:g} of 10.",
        score=score,
        max_score=10.0,
        due=due,
        tests=[
            TestResult(name=OPEN, score=1.0, max_score=5.0, output="expected 2"),
            TestResult(name=secret, score=score, output=secret, visibility=Visibility.HIDDEN),
            TestResult(name=LATE, score=0.0, visibility=Visibility.AFTER_DUE_DATE),
        ],
        notes=[secret],
        extra_data={"seed": secret},
        receipt=make_receipt(),
    )


def graded(world: World, results: Results, secret: str = SECRET) -> str:
    """A job that the runner has graded, in which every role has its part."""
    callback = {"url": "https://93.184.215.14/hook", "secret": _webhook_secret(world)}
    job = world.api.add_job(ADMIN, action="grade", acl=ACL, callbacks=[callback])
    grade(world, job, results, secret)
    return job


def grade(world: World, job: str, results: Results, secret: str = SECRET) -> None:
    """Have the runner grade a job, and tell staff of a test meanwhile."""
    entry, fence = f"entry-999-{uuid.uuid4().int % 10**10:010}", {"incarnation": 1, "czxid": 1}
    claim = {"job": job, "entry": entry, "fence": fence}
    ability = {"executor": "e", "actions": ["grade"], "job_version": 2}
    runner = WHO["runner"]
    reply = world.api(runner, "POST", "engine/claim", {**ability, "claims": [claim]}).json()
    assert reply["replies"][0]["answer"] == "run"
    held = {"job": job, "fence": fence}
    note = {"kind": "test", "data": json.dumps({"name": secret}), "staff": True, "after": 1}
    reports = [
        {**held, "kind": "progress", "log": ["test: ended"], "events": [note]},
        {
            **held,
            "kind": "finish",
            "state": "SUCCESS",
            "return_code": 0,
            "status_message": results.headline,
            "output": to_json(results),
        },
    ]
    reply = world.api(runner, "POST", "engine/report", {"executor": "e", "reports": reports}).json()
    assert reply["receipts"] == ["accepted", "accepted"]


def _webhook_secret(world: World) -> str:
    return str(world.api(ADMIN, "POST", "webhook-secret", {}).json()["resource-id"])


@pytest.fixture(scope="module")
def pair(world: World) -> tuple[str, str]:
    """Two jobs that differ in what is hidden."""
    return graded(world, verdict(SECRET, 9)), graded(world, verdict("plugh", 3), "plugh")


# --- the ways -----------------------------------------------------------------

Way = Callable[[World, str, str], str]


def _get(path: str = "", **params: str) -> Way:
    return lambda world, role, job: world.api(WHO[role], "GET", f"{job}{path}", params=params).text


def _search(type_name: str = "job", mine: str = "id='{}'", **form: str) -> Way:
    def way(world: World, role: str, job: str) -> str:
        both = [mine.format(job), *([form["filter"]] if "filter" in form else [])]
        asked = {**form, "filter": " and ".join(f"({one})" for one in both)}
        return world.api(WHO[role], "PUT", type_name, data=asked).text

    return way


def _edit(world: World, role: str, job: str) -> str:
    return world.api(WHO[role], "PUT", job, {"description": "x"}).text


def _stream(world: World, role: str, job: str) -> str:
    url = f"{world.api.running.url}/api/{job}/stream"
    with httpx.stream("GET", url, headers={"nuvla-authn-info": WHO[role]}, timeout=20) as reply:
        return reply.read().decode()


def _typed(world: World, role: str, job: str) -> str:
    document = world.api(WHO[role], "GET", job).json()
    return str(Job(job, document, world.api).output) if "state" in document else ""  # type: ignore[arg-type]


def _operate(name: str) -> Way:
    return lambda world, role, job: world.api(WHO[role], "POST", f"{job}/{name}").text


READS: Final[Mapping[str, Way]] = {
    "get": _get(),
    "get-output": _get(select="output"),
    "get-message": _get(select="status-message"),
    "log": _get("/log"),
    "stream": _stream,
    "typed": _typed,
    "edit": _edit,
    "cancel": _operate("cancel"),
    "search": _search(),
    "search-output": _search(select="output,status-message"),
    "trail": _search("event", "content/resource/href='{}'", orderby="name"),
    "deliveries": _search("webhook-delivery", "job='{}'"),
}
QUESTIONS: Final[Mapping[str, Way]] = {
    **{
        f"{name} {asked}": _search(filter=f"{name}{asked}", select="id")
        for name, values in {"output": (SECRET, "plugh"), "status-message": ("9", "3")}.items()
        for asked in [
            *(f"=='{value}'" for value in values),
            *("!=null", "=null", "^='{'", ">'a'", "!='x'", "=='-nothing'"),
        ]
    },
    "output or": _search(filter=f"output=='{SECRET}' or state='SUCCESS'"),
    **{f"by {name}": _search(orderby=name) for name in ("output", "status-message:desc")},
    **{
        f"{algorithm} of {name}": _search(aggregation=f"{algorithm}:{name}", last="0")
        for algorithm in ("terms", "cardinality", "value_count", "missing", "min", "stats")
        for name in ("output", "status-message")
    },
    "path": _search(filter=f"output/tests=='{SECRET}'"),
    "dotted": _search(orderby="output.tests"),
}


@pytest.mark.parametrize("way", [*READS, *QUESTIONS])
def test_callers_who_are_not_staff_cannot_tell_two_verdicts_apart(
    world: World, pair: tuple[str, str], way: str
) -> None:
    read = {**READS, **QUESTIONS}[way]
    for role in sorted(STUDENTS if way in READS else READERS | {"manage"}):
        one, other = (read(world, role, job) for job in pair)
        assert SECRET not in one, role
        assert _CHANGING.sub("", one) == _CHANGING.sub("", other), role
        if way in QUESTIONS:
            # A question by what is hidden finds nothing, whatever the answer would be.
            assert _counts(one) == _counts(other) == ([] if "count" not in one else [0]), role


def _counts(text: str) -> Sequence[int]:
    found = json.loads(text).get("count")
    return [] if found is None else [found]


def test_students_read_what_is_open(world: World, pair: tuple[str, str]) -> None:
    for role in sorted(READERS):
        for way in ("get", "get-output", "typed", "search"):
            assert OPEN in READS[way](world, role, pair[0]), (role, way)
    assert "9 of 10" not in READS["get-message"](world, "view-data", pair[0])


@pytest.mark.parametrize("way", ["get", "get-output", "typed", "stream", "search", "edit"])
def test_staff_see_all_of_it(world: World, way: str) -> None:
    # The edits of this test need a job that is not over for them: that is a conflict.
    job = graded(world, verdict(SECRET, 9))
    for role in sorted(STAFF):
        seen = READS[way](world, role, job)
        assert (SECRET in seen) is (way != "edit"), role


def test_staff_search_by_it(world: World, pair: tuple[str, str]) -> None:
    for role in sorted(STAFF):
        found = [_counts(QUESTIONS[f"output =='{SECRET}'"](world, role, job)) for job in pair]
        assert found == [[1], [0]], role


def test_outputs_without_a_verdict_can_be_searched_by_their_readers(world: World) -> None:
    job = world.api.add_job(ADMIN, acl=ACL, output="plain", status_message="all is well")
    for asked in ("output='plain'", "status-message=='well'"):
        reader = _search(filter=asked)(world, "view-data", job)
        assert _counts(reader) == [1], asked
    assert '"plain"' in _get()(world, "view-data", job)


@pytest.mark.parametrize(("days", "shown"), [(-1, True), (1, False)])
def test_the_due_date_is_told_by_the_clock(world: World, days: int, shown: bool) -> None:
    due = datetime.now(UTC) + timedelta(days=days)
    job = graded(world, verdict(SECRET, 9, due))
    for role in sorted(READERS):
        seen: Any = READS["get-output"](world, role, job)
        assert (LATE in seen) is shown, role
        assert SECRET not in seen
