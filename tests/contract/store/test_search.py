"""Searching: filters over columns and JSON, order, pages, aggregations, and who may see."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from job_engine.errors import InvalidFilterError
from job_engine.model.acl import normalise
from job_engine.model.timestamps import format_ms
from job_engine.store.factory import open_store
from job_engine.store.resources import Resource
from job_engine.store.search.filter import parse_filter
from job_engine.store.search.query import Page, Query, run
from job_engine.store.search.source import JOBS, Source, resources_of
from job_engine.store.store import Store
from tests.contract.store.support import NOW_MS, Clock, add, document, push
from tests.databases import BACKENDS, database


class Found(NamedTuple):
    """A store, and the ids of its jobs by their names."""

    store: Store
    jobs: dict[str, str]


def search(store: Store, text: str | None = None, source: Source = JOBS, **more: Any) -> Page:
    query = Query(filter=None if text is None else parse_filter(text), **more)
    return store.database.read(lambda c: run(c, source, query, store.clock()))


def names(store: Store, text: str, **more: Any) -> list[str]:
    return sorted(str(d.get("name")) for d in search(store, text, **more).documents)


@pytest.fixture(scope="module", params=BACKENDS)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Found]:
    """Three jobs, a day apart, the newest at the clock's time; nobody writes to this store."""
    clock = Clock()
    with database(request, request.param, tmp_path_factory.mktemp("search")) as url:
        store = open_store(url, clock)
        store.start()
        yield Found(store, three_jobs(store, clock))
        store.stop()


def three_jobs(store: Store, clock: Clock) -> dict[str, str]:
    ids = {}
    clock.advance(-2 * 86_400)
    ids["a"] = add(store, name="a", tags=None, parent_job="job/1", progress=9, priority=10)
    clock.advance(86_400)
    ids["b"] = add(
        store,
        name="b",
        execution_mode="pull",
        tags=["x", "y"],
        affected_resources=[{"href": "user/jane"}, {"href": "user/joe", "flag": True}],
        progress=50,
        description="it's",
    )
    clock.advance(86_400)
    ids["c"] = add(
        store,
        name="c",
        action="bulk_update",
        target_resource={"href": "deployment/abc", "n": {"deep": [1, 2]}},
        progress=100,
    )
    push(store, ids["c"], 7)
    return ids


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name='a'", "a"),
        ("name!='a'", "bc"),
        ("name=['a' 'c']", "ac"),
        ("name!=['a','c']", "b"),
        ("name=[]", ""),
        ("name!=[]", "abc"),
        ("name=null", ""),
        ("description=null", "ac"),
        ("description!=null", "b"),
        ("description!='other'", "abc"),
        ('description="it\'s"', "b"),
        (r"description='it\'s'", ""),
        ("tags='x'", "b"),
        ("tags!='x'", "ac"),
        ("tags=['q','y']", "b"),
        ("tags=null", "a"),
        ("tags='/job/entries/entry-999-0000000007'", "c"),
        ("tags^='/job/entries/'", "c"),
        ("affected-resources/href='user/joe'", "b"),
        ("affected-resources/flag=true", "b"),
        ("affected-resources/flag!=true", "ac"),
        ("target-resource/href^='deployment/'", "c"),
        ("'deployment/'^=target-resource/href", "c"),
        ("target-resource/n/deep=2", "c"),
        ("target-resource/n/deep>1", "c"),
        ("target-resource/n/deep>'1'", "c"),
        ("target-resource/n/deep>2", ""),
        ("acl/owners='user/teacher'", "abc"),
        ("progress=50", "b"),
        ("progress='50'", "b"),
        ("progress>='9'", "abc"),
        ("progress>9", "bc"),
        ("60<progress", "c"),
        ("progress>=50 and progress<100", "b"),
        ("progress=99999999999999999999999999", ""),
        ("priority=null", "bc"),
        ("priority=['10','20',30]", "a"),
        ("action^='bulk'", "c"),
        ("action^='BULK'", ""),
        ("action>'m'", "ab"),
        ("resource-type='job'", "abc"),
        ("id!=null", "abc"),
        ("name='a' or name='b' and progress=0", "a"),
        ("(name='a' or name='b') and progress=50", "b"),
        ("nothing-like-it='x'", ""),
        ("nothing-like-it=null", "abc"),
        ("name/of/it='x'", ""),
        ("parent-job='job/1'", "a"),
        ("fulltext=='IT*'", "b"),
        ("description=='it'", "b"),
        ("location intersects 'POINT(1 2)'", ""),
        ("created>'now-1h'", "c"),
        ("created<'now-1h'", "ab"),
        ("created<'now-1d'", "a"),
        ("created='2023-11-13'", "b"),
        ("created=['2023-11-13','2023-11-14']", "bc"),
        ("created<'2023-11-13'", "a"),
        ("created<='2023-11-13'", "ab"),
        ("created>'2023-11-13'", "c"),
        ("created>='2023-11-13'", "bc"),
        ("created='2023-11'", "abc"),
        ("created='2023'", "abc"),
        ("created<2023-11-13", "a"),
        ("created>='now-1d/d'", "bc"),
        ("created>='2023-10-13||+1M/d'", "bc"),
        (f"created={NOW_MS}", "c"),
        (f"created='{NOW_MS}'", "c"),
        ("created>=2023-11-14T23:13:20.000+01:00", "c"),
        ("started=null", "abc"),
        ("started>'now-1h'", ""),
        ("expiry<'now'", ""),
    ],
)
def test_filters_find_the_expected_documents(found: Found, text: str, expected: str) -> None:
    assert names(found.store, text) == list(expected)


@pytest.mark.parametrize(
    "text",
    [
        "progress='abc'",
        "created='foo'",
        "created^='2023'",
        "progress^='5'",
        "created=true",
        "created<'now-7q'",
    ],
)
def test_invalid_comparisons_are_refused(found: Found, text: str) -> None:
    with pytest.raises(InvalidFilterError):
        search(found.store, text)


def test_nothing_of_a_filter_is_sql(found: Found) -> None:
    store = found.store
    for hostile in ("'; DROP TABLE jobs; --", "x' OR 1=1 --", "%", "_", '"$.a'):
        quoted = f'"{hostile}"' if '"' not in hostile else f"'{hostile}'"
        for attribute in ("name", "tags", "description", "affected-resources/href", "id"):
            assert search(store, f"{attribute}={quoted}").count == 0
            assert search(store, f"{attribute}^={quoted}").count == 0
    assert search(store).count == 3


def test_thousands_of_terms(found: Found) -> None:
    store, ids = found
    same = " or ".join(f"id='job/{n}'" for n in range(4000))
    assert search(store, f"{same} or id='{ids['b']}'").count == 1
    mixed = " or ".join(
        f"progress>{n + 200}" if n % 2 else f"description^='{n}'" for n in range(4000)
    )
    began = time.perf_counter()
    assert names(store, f"{mixed} or name='a'") == ["a"]
    every = " and ".join(f"tags!='{n}'" for n in range(4000))
    assert search(store, every).count == 3
    assert time.perf_counter() - began < 30


def test_pages_and_count(store: Store) -> None:
    for n in range(5):
        add(store, name=str(n))
    ordered = [("name", False)]
    page = search(store, orderby=ordered, offset=1, limit=2)
    assert page.count == 5
    assert [d["name"] for d in page.documents] == ["1", "2"]
    assert search(store, limit=0).documents == []
    assert search(store, offset=9).documents == []


def test_order(found: Found) -> None:
    store = found.store

    def ordered(*orderby: tuple[str, bool]) -> str:
        return "".join(d["name"] for d in search(store, orderby=orderby).documents)

    assert ordered(("created", False)) == "abc"
    assert ordered(("created", True)) == "cba"
    assert ordered(("state", False), ("created", True)) == "cba"
    assert ordered(("description", False), ("name", True)) == "bca"  # who lacks it comes last
    assert ordered(("description", True), ("name", False)) == "bac"
    assert ordered(("target-resource.href", False), ("name", False)) == "cab"
    assert ordered(("target-resource.n.deep", True), ("name", False)) == "cab"
    with pytest.raises(InvalidFilterError):
        ordered(("name; DROP TABLE jobs", False))


def test_aggregations(found: Found) -> None:
    store = found.store
    asked = [
        "terms:action",
        "terms:tags",
        "terms:target-resource/href",
        "min:progress",
        "max:progress",
        "sum:progress",
        "avg:progress",
        "value_count:id",
        "cardinality:action",
        "min:duration",
        "stats:progress",
        "bogus:state",
        "terms:'; DROP",
    ]
    sums = search(store, aggregations=asked, limit=0).aggregations
    assert sums is not None
    assert sums["terms:action"]["buckets"] == [
        {"key": "noop", "doc_count": 2},
        {"key": "bulk_update", "doc_count": 1},
    ]
    assert {b["key"] for b in sums["terms:tags"]["buckets"]} == {
        "x",
        "y",
        "/job/entries/entry-999-0000000007",
    }
    assert sums["terms:target-resource/href"]["buckets"] == [
        {"key": "deployment/abc", "doc_count": 1}
    ]
    assert sums["min:progress"] == {"value": 9.0}
    assert sums["max:progress"] == {"value": 100.0}
    assert sums["sum:progress"] == {"value": 159.0}
    assert sums["avg:progress"] == {"value": 53.0}
    assert sums["value_count:id"] == {"value": 3}
    assert sums["cardinality:action"] == {"value": 2}
    assert sums["min:duration"] == {"value": None}
    assert sums["stats:progress"]["count"] == 3
    assert "bogus:state" not in sums
    assert "terms:'; DROP" not in sums
    assert search(store, aggregations=["bogus:state"]).aggregations is None
    assert search(store, "name='a'", aggregations=["sum:progress"]).aggregations == {
        "sum:progress": {"value": 9.0}
    }


def test_a_search_by_an_attribute_without_the_right_finds_nothing(store: Store) -> None:
    """A filter answers questions: it must not tell what reading would hide."""
    acl = normalise(
        {
            "owners": ["user/a"],
            "view-meta": ["user/meta"],
            "view-data": ["user/data"],
            "view-acl": ["user/acl"],
        }
    )
    store.jobs.add({**document(), "name": "n", "payload": "secret", "acl": acl})

    def seen(who: str, text: str | None, **more: Any) -> int:
        return search(store, text, claims={who, "group/nuvla-user"}, **more).count

    assert [seen(who, None) for who in ("user/x", "user/meta", "user/data")] == [0, 1, 1]
    assert seen("user/meta", "name='n'") == 1
    assert seen("user/meta", "payload^='s'") == 0
    assert seen("user/meta", "name='n' or payload='x'") == 0
    assert seen("user/meta", None, orderby=[("payload", False)]) == 0
    assert seen("user/meta", None, aggregations=["terms:payload"]) == 0
    assert seen("user/data", "payload^='s'") == 1
    assert seen("user/data", "acl/owners='user/a'") == 0
    assert seen("user/acl", "acl/owners='user/a'") == 1
    assert seen("user/a", "acl/owners='user/a' and payload='secret'") == 1


def test_other_resources_are_searched_the_same_way(store: Store, clock: Clock) -> None:
    def stored(number: int, **more: Any) -> Resource:
        acl = normalise({"owners": ["user/a"]})
        return Resource({"id": f"thing/{number}", "acl": acl, "n": number, **more}, key=str(number))

    store.resources.add(stored(1, expiry="2023-11-14T22:13:19.000Z"))
    store.resources.add(stored(2, name="two", expiry="2023-11-14T22:13:21.000Z"))
    store.resources.add(Resource({**stored(3).document, "id": "other/3"}))
    things = resources_of("thing")
    assert search(store, source=things).count == 2
    assert names(store, "n>1", source=things) == ["two"]
    assert names(store, "expiry>'now'", source=things) == ["two"]
    assert names(store, "expiry<'now'", source=things) == ["None"]
    assert names(store, "expiry='2023-11-14'", source=things) == ["None", "two"]
    assert names(store, "resource-type='thing' and name!=null", source=things) == ["two"]
    assert search(store, source=things, claims={"user/b"}).count == 0


def test_aggregations_of_dates_are_told_as_timestamps_too(store: Store) -> None:
    add(store)
    add(store)
    at = format_ms(NOW_MS)
    asked = ["min:created", "avg:created", "stats:created", "terms:created", "value_count:created"]
    sums = search(store, aggregations=asked, limit=0).aggregations
    assert sums is not None
    whole = {"value": float(NOW_MS), "value_as_string": at}
    assert (sums["min:created"], sums["avg:created"]) == (whole, whole)
    assert {sums["stats:created"][f"{name}_as_string"] for name in ("min", "max", "avg")} == {at}
    assert sums["terms:created"]["buckets"] == [
        {"key": NOW_MS, "key_as_string": at, "doc_count": 2}
    ]
    assert sums["value_count:created"] == {"value": 2}
    assert search(store, "id=null", aggregations=["max:created"]).aggregations == {
        "max:created": {"value": None}
    }


def test_a_path_to_aggregate_has_slashes_or_dots(store: Store) -> None:
    add(store, target_resource={"href": "a/b", "n": 5})
    asked = ["sum:target-resource.n", "terms:target-resource.href", "terms:target-resource/href"]
    sums = search(store, aggregations=asked, limit=0).aggregations
    assert sums is not None
    assert sums["sum:target-resource.n"] == {"value": 5.0}
    assert sums["terms:target-resource.href"] == sums["terms:target-resource/href"]
    assert sums["terms:target-resource.href"]["buckets"] == [{"key": "a/b", "doc_count": 1}]


def test_aggregations_of_huge_numbers_are_numbers(store: Store) -> None:
    """What is beyond a float is null: neither JSON nor PostgreSQL has the infinity it would be."""
    for n in (1e308, -1e308, 1e308, 1e308):
        add(store, target_resource={"href": "a/b", "n": n})
    kinds = ("sum", "avg", "stats", "extendedstats", "percentiles")
    asked = [f"{kind}:target-resource/n" for kind in kinds]
    sums = search(store, aggregations=asked, limit=0).aggregations
    assert sums is not None
    json.dumps(sums, allow_nan=False)
    assert sums["sum:target-resource/n"] == {"value": None}
    assert sums["avg:target-resource/n"] == {"value": 5e307}
    assert sums["extended_stats:target-resource/n"]["variance"] is None
    deviation = sums["extended_stats:target-resource/n"]["std_deviation"]
    assert deviation == pytest.approx(0.75**0.5 * 1e308)
    assert sums["percentiles:target-resource/n"]["values"]["50.0"] == 1e308
