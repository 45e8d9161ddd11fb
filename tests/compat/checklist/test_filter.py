"""Checklist 45 to 59: the filter language."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.compat.checklist.conftest import ADMIN, Http, refused
from tests.support.filters import INVALID, VALID


class Found:
    """The labels of the jobs, among three of the test's own, that a filter finds."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._creator = f"user/{uuid4()}"
        attributes: dict[str, dict[str, Any]] = {
            "a": {"name": "it's", "tags": ["a", "b"], "progress": 9},
            "b": {"name": r"it\'s", "tags": [], "progress": 50, "description": "x"},
            "c": {"affected_resources": [{"href": "user/y"}, {"href": "user/x"}], "progress": 100},
        }
        self._labels = {
            http.add_job(created_by=self._creator, execution_mode="pull", **more): label
            for label, more in attributes.items()
        }
        self.day = http.read(next(iter(self._labels)))["created"][:10]
        """When they were created."""

    def __call__(self, text: str) -> str:
        """Search."""
        filters = [f"created-by='{self._creator}'", text]
        found = self._http.search(filter=filters, select="id")["resources"]
        return "".join(sorted(self._labels[resource["id"]] for resource in found))


@pytest.fixture(scope="module")
def found(http: Http) -> Found:
    """Three jobs, and a way to search among them."""
    return Found(http)


@pytest.mark.parametrize("text", VALID.values(), ids=VALID)
def test_045_every_valid_example_is_accepted(http: Http, text: str) -> None:
    reply = http.put("/api/job", data={"filter": text, "last": 0}, headers=ADMIN)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("key", INVALID)
def test_045_every_invalid_example_is_refused(http: Http, key: str) -> None:
    for text in INVALID[key]:
        reply = http.put("/api/job", data={"filter": text}, headers=ADMIN)
        assert refused(reply, 400, "")["message"].startswith("Invalid CIMI filter. "), text


def test_046_unequal_finds_what_has_none_at_all(found: Found) -> None:
    assert found("name!='x'") == "abc"
    assert found('name!="it\'s"') == "bc"


def test_047_a_list_equals_each_of_its_elements(found: Found) -> None:
    assert found("tags='a'") == "a"
    assert found("tags!='a'") == "bc"


def test_048_null_is_absent_and_so_is_an_empty_list(found: Found) -> None:
    assert found("name=null") == "c"
    assert found("name!=null") == "ab"
    assert found("tags=null") == "bc"


def test_049_an_empty_list_of_values_is_nothing(found: Found) -> None:
    assert found("state=[]") == ""
    assert found("state!=[]") == "abc"


def test_050_a_quoted_number_is_a_number(found: Found) -> None:
    assert found("progress='50'") == found("progress=50") == "b"
    assert found("progress>='9'") == "abc"
    assert found("progress<'50'") == "a"


def test_051_now_is_the_servers_time(found: Found) -> None:
    assert found("created<'now-7d'") == ""
    assert found("created>'now-1h'") == "abc"
    assert found("created<='now'") == "abc"


def test_052_a_day_is_all_of_it(found: Found) -> None:
    assert found(f"created='{found.day}'") == "abc"
    assert found(f"created<='{found.day}'") == "abc"
    assert found(f"created<'{found.day}'") == ""
    assert found(f"created>'{found.day}'") == ""
    assert found(f"created>='{found.day}'") == "abc"


def test_053_and_binds_tighter_than_or(found: Found) -> None:
    assert found("progress=9 or progress=50 and description='nosuch'") == "a"
    assert found("(progress=9 or progress=50) and description='x'") == "b"


def test_054_and_needs_no_blank_after_a_value(found: Found) -> None:
    assert found('state="QUEUED"and tags="b"') == "a"


def test_055_a_backslash_stays_in_the_text(found: Found) -> None:
    assert found(r"name='it\'s'") == "b"
    assert found('name="it\'s"') == "a"


def test_056_any_element_of_a_list_of_objects_counts(found: Found) -> None:
    assert found("affected-resources/href='user/x'") == "c"
    assert found("affected-resources/href=['user/z','user/y']") == "c"


def test_057_thousands_of_comparisons_are_accepted(http: Http, found: Found) -> None:
    assert (
        found(" or ".join(["progress=50", *(f"progress={n + 1000}" for n in range(4000))])) == "b"
    )
    assert found(" or ".join(["progress=50", *(f"name='{n}'" for n in range(4000))])) == "b"


def test_058_an_unknown_attribute_finds_nothing_and_is_no_error(found: Found) -> None:
    assert found("nosuch='x'") == found("nosuch/deeper>5") == ""
    assert found("nosuch=null") == found("nosuch!='x'") == "abc"


def test_059_a_number_beyond_all_columns_finds_nothing(found: Found) -> None:
    """Replaces statement 59: the peer answers 500."""
    for number in (99_999_999_999, 2**64, 10**40):
        assert found(f"progress={number}") == found(f"return-code={number}") == ""
        assert found(f"progress<{number}") == "abc"
    assert found(f"created>{10**40}") == ""
