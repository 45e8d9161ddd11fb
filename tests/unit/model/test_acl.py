"""How large an access list may be."""

from __future__ import annotations

import pytest

from job_engine.errors import InvalidResourceError
from job_engine.model.acl import MAX_PRINCIPALS, normalise


def test_a_list_has_an_end() -> None:
    most = [f"user/u{n}" for n in range(MAX_PRINCIPALS)]
    assert normalise({"owners": most})["owners"] == sorted(most)
    for key in ("owners", "view-meta"):
        with pytest.raises(InvalidResourceError, match="more than 1000 principals"):
            normalise({"owners": ["user/a"], key: [*most, "user/more"]})
