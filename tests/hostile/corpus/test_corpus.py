"""The corpus on every backend: its verdicts, and that nothing escapes, stays or breaks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.corpus import host
from tests.hostile.corpus.bench import Bench, Graded, grade_all
from tests.hostile.corpus.rows import load

ROWS = load()
# The first one waits for a Docker daemon, and for its image.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def graded(request: pytest.FixtureRequest, bench: Bench) -> Iterator[Graded]:
    """All programs that were asked for, graded at once; each test waits for its own."""
    asked = {
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and "graded" in item.fixturenames
        and "name" in item.callspec.params
    }
    bench.ears.forget()
    with host.canaries():
        before = host.look()
        with grade_all(bench, [ROWS[name] for name in ROWS if name in asked]) as graded:
            yield graded
        assert graded.ordinary.result() > 0
        assert host.harm(before, host.look()) == []
    assert bench.ears.heard() == []


@pytest.mark.parametrize("name", ROWS)
def test_gets_its_verdict_and_nothing_else(graded: Graded, name: str) -> None:
    assert graded.wrong[name].result() == []


def test_ordinary_submissions_get_their_mark_beside_and_after_it(graded: Graded) -> None:
    assert graded.ordinary.result() > 0
