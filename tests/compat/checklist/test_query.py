"""Checklist 15 to 44: queries, their pages, order, selection and aggregations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from tests.compat.checklist.conftest import ADMIN, ANON, JANE, JJ_ACL, NB, Headers, Http, refused

COUNT: Final = 5
"""Jobs that a paged collection has, named 1 to 5 in the order of their creation."""

Mine = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def action(http: Http) -> str:
    """The action of five jobs, which nobody adds to."""
    name = f"paged-{uuid4()}"
    for n in range(1, COUNT + 1):
        http.add_job(action=name, name=str(n), acl=JJ_ACL)
    return name


@pytest.fixture(scope="module")
def mine(http: Http, action: str) -> Mine:
    """Search among the five jobs, by name unless another order is asked for."""

    def search(who: Headers = ADMIN, **params: Any) -> dict[str, Any]:
        asked = {"filter": f"action='{action}'", "orderby": "name", **params}
        return http.search(who, **asked)

    return search


def names(found: dict[str, Any]) -> str:
    return "".join(str(resource.get("name", "-")) for resource in found["resources"])


def rels(document: dict[str, Any]) -> list[str]:
    return [operation["rel"] for operation in document["operations"]]


# --- the envelope -----------------------------------------------------------------


def test_015_a_put_without_a_body_is_a_query_of_everything(http: Http, action: str) -> None:
    reply = http.put("/api/job", headers=JANE)
    assert "content-type" not in reply.request.headers
    assert reply.status_code == 200
    found = reply.json()
    assert (found["id"], found["resource-type"]) == ("job", "job-collection")
    assert type(found["count"]) is int
    assert found["count"] >= COUNT
    assert isinstance(found["resources"], list)


def test_016_nobody_queries_jobs_anonymously(http: Http) -> None:
    for method in ("GET", "PUT"):
        body = refused(http.request(method, "/api/job", headers=ANON), 403, "credentials required")
        assert "resource-id" not in body


# --- pages ------------------------------------------------------------------------


def test_017_the_last_is_zero_and_there_is_only_the_count(mine: Mine) -> None:
    found = mine(last=0)
    assert (found["resources"], found["count"], found["id"]) == ([], COUNT, "job")


def test_018_first_and_last_are_counted_from_one_and_inclusive(mine: Mine) -> None:
    found = mine(first=2, last=3)
    assert (names(found), found["count"]) == ("23", COUNT)


def test_019_a_first_after_the_last_finds_none(mine: Mine) -> None:
    found = mine(first=5, last=3)
    assert (names(found), found["count"]) == ("", COUNT)


def test_020_what_is_no_number_is_ignored(mine: Mine) -> None:
    assert names(mine(first="abc", last="xyz")) == "12345"
    assert names(mine(first=["abc", "2"], last=["", "3"])) == "23"
    # What Python reads as one, and the contract does not.
    for text in ("0_2", " 2", "2\n", "٢", "2.0", "0x2", "9" * 5000):
        assert names(mine(first=text, last=text)) == "12345", text


def test_021_a_first_below_one_is_one_and_a_negative_last_finds_none(mine: Mine) -> None:
    assert names(mine(first=0, last=2)) == "12"
    assert names(mine(first=-7, last=2)) == "12"
    assert names(mine(last=-1)) == ""
    assert mine(last=-1)["count"] == COUNT


@pytest.mark.parametrize("page", ["last=10001", "first=20000&last=5", "first=10002"])
def test_022_a_window_of_more_than_10000_is_refused(http: Http, page: str) -> None:
    """Replaces statement 22: it is 400, for the request is wrong; the peer says 500."""
    message = "First and last must be less than or equal to 10'000"
    refused(http.get(f"/api/job?{page}", headers=ADMIN), 400, message)


def test_023_a_window_that_ends_at_10000_is_answered(http: Http) -> None:
    assert http.get("/api/job?first=9991&last=10000", headers=ADMIN).status_code == 200


def test_024_a_query_string_and_a_form_find_the_same(http: Http, action: str) -> None:
    asked: dict[str, Any] = {
        "filter": f"action='{action}' and name!='3'",
        "orderby": "name:desc",
        "select": "id,name",
        "first": 2,
        "last": 3,
        "aggregation": "terms:name",
    }
    got = http.get(f"/api/job?{urlencode(asked)}", headers=JANE)
    assert got.json() == http.search(JANE, **asked)
    assert names(got.json()) == "42"


def test_025_a_filter_in_a_json_body_is_ignored(http: Http, mine: Mine) -> None:
    reply = http.put("/api/job", json={"filter": "id='job/nosuch'"}, headers=ADMIN)
    assert reply.status_code == 200
    assert reply.json()["count"] >= COUNT


def test_026_an_empty_filter_is_invalid(http: Http) -> None:
    for reply in (
        http.get("/api/job?filter=", headers=ADMIN),
        http.put("/api/job", data={"filter": ""}, headers=ADMIN),
    ):
        assert refused(reply, 400, "")["message"].startswith("Invalid CIMI filter.")


def test_027_two_filters_both_have_to_hold(http: Http, action: str) -> None:
    filters = [f"action='{action}'", "name='1' or name='2'", "name!='2'"]
    assert names(http.search(filter=filters)) == "1"


# --- order ------------------------------------------------------------------------


def test_028_orders_are_applied_one_after_the_other(http: Http, mine: Mine, action: str) -> None:
    assert names(mine(orderby="created:desc,name:desc")) == "54321"
    assert names(mine(orderby=["created", "name"])) == "12345"
    canceled = f"{action}-canceled"
    for n in "abc":
        job = http.add_job(action=canceled, name=n)
        if n == "b":
            http.post(f"/api/{job}/cancel", headers=ADMIN)
    found = http.search(filter=f"action='{canceled}'", orderby="state, created:desc")
    assert [r["state"] for r in found["resources"]] == ["CANCELED", "QUEUED", "QUEUED"]
    assert names(found) == "bca"


def test_029_nested_and_unindexed_attributes_can_be_sorted_by(http: Http) -> None:
    """Replaces statement 29: a slash is as good as a dot, and `status-message` sorts too."""
    name = f"nested-{uuid4()}"
    for n, message in (("2", "x"), ("3", "z"), ("1", "y")):
        target = {"href": f"deployment/{n}"}
        http.add_job(action=name, name=n, target_resource=target, status_message=message)
    for attribute in ("target-resource.href", "target-resource/href"):
        found = http.search(filter=f"action='{name}'", orderby=f"{attribute}:desc")
        assert names(found) == "321"
    assert names(http.search(filter=f"action='{name}'", orderby="status-message")) == "213"
    refused(http.get("/api/job?orderby=a:dummy b", headers=ADMIN), 400, "cannot order by")


def test_030_who_lacks_the_attribute_comes_last_either_way(http: Http) -> None:
    name = f"lacking-{uuid4()}"
    for n in "13":
        http.add_job(action=name, name=n)
    for n, priority in (("2", 5), ("4", 7)):
        http.add_job(action=name, name=n, priority=priority)

    def ordered(by: str) -> str:
        return names(http.search(filter=f"action='{name}'", orderby=by))

    assert ordered("priority,name") == "2413"
    assert ordered("priority:desc,name") == "4213"
    assert ordered("nosuch:desc,name") == "1234"


# --- select -----------------------------------------------------------------------


def test_031_exactly_the_selected_attributes_are_there(mine: Mine) -> None:
    assert all(r.keys() == {"id", "state"} for r in mine(select="id,state")["resources"])


def test_032_a_blank_after_the_comma_does_not_matter(mine: Mine) -> None:
    found = mine(select="id, operations")["resources"]
    assert all(r.keys() == {"id", "operations"} for r in found)


def test_033_operations_are_there_only_when_selected(mine: Mine) -> None:
    assert all("operations" not in r for r in mine(select="state")["resources"])


def test_034_a_repeated_select_is_a_list(mine: Mine) -> None:
    assert mine(select=["id", "state"]) == mine(select="id,state")


def test_035_nested_attributes_cannot_be_selected(mine: Mine) -> None:
    for nested in ("target-resource/href", "target-resource.href", "*"):
        assert all(r.keys() == {"id"} for r in mine(select=nested)["resources"])


def test_036_without_a_select_operations_are_there_for_who_sees_the_acl(mine: Mine) -> None:
    for who, offered in ((ADMIN, "delete"), (JANE, "cancel")):
        found = mine(who)["resources"]
        assert len(found) == COUNT
        assert all(offered in rels(r) and "acl" in r for r in found)


def test_037_operations_are_hidden_in_searches_from_who_does_not_see_the_acl(http: Http) -> None:
    acl = {"owners": ["group/nuvla-admin"], "view-data": ["user/jane"], "manage": ["user/jane"]}
    job = http.add_job(acl=acl)
    (found,) = http.search(JANE, filter=f"id='{job}'")["resources"]
    assert found["state"] == "QUEUED"
    assert found.keys().isdisjoint({"acl", "operations"})
    assert rels(http.read(job, JANE)) == ["cancel"]


# --- aggregations, and who sees what ------------------------------------------------


def test_038_terms_are_counted_in_buckets(http: Http, mine: Mine) -> None:
    found = mine(aggregation="terms:state", last=0)
    assert found["aggregations"]["terms:state"]["buckets"] == [{"key": "QUEUED", "doc_count": 5}]
    assert "aggregations" not in mine(last=0)


def test_039_the_key_of_an_aggregation_keeps_its_slash(http: Http) -> None:
    name = f"summed-{uuid4()}"
    for href in ("deployment/a", "deployment/b", "deployment/a"):
        http.add_job(action=name, target_resource={"href": href})
    asked = "terms:target-resource/href"
    sums = http.search(filter=f"action='{name}'", aggregation=asked, last=0)["aggregations"]
    found = sums[asked]["buckets"]
    assert [(b["key"], b["doc_count"]) for b in found] == [("deployment/a", 2), ("deployment/b", 1)]


def test_040_an_unknown_aggregation_is_ignored(mine: Mine) -> None:
    found = mine(aggregation="bogus:state,min:progress", last=0)["aggregations"]
    assert found == {"min:progress": {"value": 0.0}}


def test_041_what_one_may_not_see_is_not_counted_anywhere(http: Http) -> None:
    name = f"hidden-{uuid4()}"
    seen = http.add_job(action=name, acl=JJ_ACL)
    http.add_job(action=name)
    of_it, asked = f"action='{name}'", "terms:action,value_count:id"
    for who, ids in ((ADMIN, 2), (JANE, 1), (NB, 0)):
        found = http.search(who, filter=of_it, aggregation=asked)
        assert (found["count"], len(found["resources"])) == (ids, ids)
        sums = found["aggregations"]
        assert sum(b["doc_count"] for b in sums["terms:action"]["buckets"]) == ids
        assert sums["value_count:id"] == {"value": ids}
    assert http.search(JANE, filter=of_it)["resources"][0]["id"] == seen


def test_042_the_collection_offers_what_the_caller_may_do(http: Http) -> None:
    found = http.search(last=0)["operations"]
    assert found == [{"rel": "add", "href": "job"}, {"rel": "bulk-delete", "href": "job"}]
    assert "operations" not in http.search(JANE, last=0)


def test_043_a_get_of_one_job_selects_too(http: Http) -> None:
    job = http.add_job()
    reply = http.get(f"/api/{job}?select=state", headers=ADMIN)
    assert reply.json() == {"id": job, "state": "QUEUED"}


def test_044_a_bad_filter_is_refused_even_where_nothing_is_filtered(http: Http) -> None:
    job = http.add_job()
    refused(http.get(f"/api/{job}?filter=bad bad", headers=ADMIN), 400, "Invalid CIMI filter.")
