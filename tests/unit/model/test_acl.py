"""How large an access list may be, and what is remembered of it."""

from __future__ import annotations

import pytest

from job_engine.errors import InvalidResourceError
from job_engine.model.acl import (
    MAX_PRINCIPALS,
    AnyAcl,
    cached_by_acl,
    normalise,
    rights_by_principal,
)


def test_a_list_has_an_end() -> None:
    most = [f"user/u{n}" for n in range(MAX_PRINCIPALS)]
    assert normalise({"owners": most})["owners"] == sorted(most)
    for key in ("owners", "view-meta"):
        with pytest.raises(InvalidResourceError, match="more than 1000 principals"):
            normalise({"owners": ["user/a"], key: [*most, "user/more"]})


def test_cached_rights_of_one_acl_are_not_returned_for_another() -> None:
    seen: list[AnyAcl] = []

    @cached_by_acl
    def principals(acl: AnyAcl) -> int:
        seen.append(acl)
        return sum(map(len, acl.values()))

    short = {"owners": ["user/a"], "view-data": ["user/b"]}
    assert [principals(acl) for acl in (short, dict(short))] == [2, 2]
    assert len(seen) == 1
    short["view-data"].append("user/c")  # the same object, and another ACL
    assert principals(short) == 3
    long = {"owners": [f"user/u{n}" for n in range(MAX_PRINCIPALS)]}
    assert [principals(long), principals(long)] == [MAX_PRINCIPALS, MAX_PRINCIPALS]
    assert len(seen) == 4  # a long one each time


def test_cached_rights_are_immutable() -> None:
    rights = rights_by_principal({"owners": ["user/a"]})
    with pytest.raises(TypeError):
        rights["user/b"] = rights["user/a"]  # type: ignore[index]
