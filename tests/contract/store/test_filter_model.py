"""Any filter over any documents: SQL finds what a plain evaluator finds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cmp_to_key
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from job_engine.model.timestamps import format_ms
from job_engine.store.base import Document
from job_engine.store.factory import open_store
from job_engine.store.filter import parse_filter
from job_engine.store.filter.nodes import And, Compare, DateText, Filter, Member, Op, Or, Value
from job_engine.store.jobs import insert_jobs
from job_engine.store.query import Query, run
from job_engine.store.source import JOBS
from job_engine.store.store import Store
from tests.contract.store.evaluator import DATES, INTEGERS, holds, sort_key
from tests.contract.store.support import NOW_MS, Clock, document
from tests.databases import BACKENDS, database

DAY_MS: Final = 86_400_000
MIDNIGHT_MS: Final = 1_699_920_000_000
"""2023-11-14, the day of NOW_MS."""
SPANS: Final = {
    "now": (NOW_MS, NOW_MS),
    "now-1d": (NOW_MS - DAY_MS, NOW_MS - DAY_MS),
    "now-1d/d": (MIDNIGHT_MS - DAY_MS, MIDNIGHT_MS - 1),
    "now/d+36h": (MIDNIGHT_MS + 36 * 3_600_000, MIDNIGHT_MS + 60 * 3_600_000 - 1),
    "2023-11-14": (MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS - 1),
    "2023-11-14T22": (MIDNIGHT_MS + 22 * 3_600_000, MIDNIGHT_MS + 23 * 3_600_000 - 1),
    "2023-11-14T22:13:20.000Z": (NOW_MS, NOW_MS),
    "2023-11-15T00:13:20.000+02:00": (NOW_MS, NOW_MS),
    "2023-11": (MIDNIGHT_MS - 13 * DAY_MS, MIDNIGHT_MS + 17 * DAY_MS - 1),
    "2023": (MIDNIGHT_MS - 317 * DAY_MS, MIDNIGHT_MS + 48 * DAY_MS - 1),
    "2023-11-13||+1d": (MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS - 1),
    str(NOW_MS): (NOW_MS, NOW_MS),
    "999999999999999999999999": (253_402_300_799_999, 253_402_300_799_999),
}
UNQUOTED: Final = {"2023-11-14", "2023-11", "2023-11-14T22:13:20.000Z"}
TIMES: Final = [
    format_ms(at)
    for at in (
        NOW_MS,
        NOW_MS - 1,
        MIDNIGHT_MS,
        MIDNIGHT_MS - 1,
        NOW_MS - DAY_MS,
        0,
        NOW_MS + DAY_MS,
    )
]

# Few of each, so that filters find something; among them what breaks out of SQL or JSON.
TEXTS: Final = [
    *("", "a", "A", "ab", "b", "x y", "10", "9", "-1", "1.5", "true", "null", "é", "É", "ß"),
    *("'", '"', "''; DROP TABLE jobs; --", "%", "_", "\\", "\\'", '$."a"', "{}", "[1]", "💥"),
    *("\ud7ff", "\ue000", "\U0010ffff", "a\nb", ":a", "%(a)s", "?", "now"),
]
NUMBERS: Final = [0, 1, 5, 9, 10, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 1.5, 0.25, 1e300]
WORDS: Final = ["a", "B", "x", "é", "true", "tru*", "'", "10"]
_STRING: Final = re.compile(r"""\"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""")

scalars = st.sampled_from([None, True, False, *NUMBERS, *TEXTS])
items = scalars | st.lists(scalars, max_size=3)
nested = st.dictionaries(st.sampled_from(["a", "b", "href"]), items, max_size=2)
json_values = (
    items | nested | st.lists(scalars | nested | st.lists(scalars, max_size=2), max_size=3)
)
attributes = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("a", "b", "tags", "x:y", "affected-resources"), json_values),
        **{name: st.sampled_from(TEXTS) for name in ("name", "description", "payload", "parent")},
        "target-resource": st.fixed_dictionaries(
            {"href": st.sampled_from(TEXTS)}, optional={"a": json_values}
        ),
        "progress": st.sampled_from([0, 5, 9, 10, 100]),
        "priority": st.sampled_from([0, 9, 10, 999]),
        "started": st.sampled_from(TIMES),
        "expiry": st.sampled_from(TIMES),
        "status-message": st.sampled_from(TEXTS),
    },
)

ANY: Final = [
    *("a", "b", "a/b", "a/a/b", "b/href", "tags", "x:y", "affected-resources/href", "name"),
    *("description", "payload", "target-resource/href", "target-resource/a", "target-resource"),
    *("parent", "state", "action", "id", "resource-type", "status-message", "nothing", "no/such"),
]


def quoted(text: str) -> str | None:
    """Return a text as the language can say it, if it can."""
    found = [q for q in (f"'{text}'", f'"{text}"') if _STRING.fullmatch(q)]
    return found[0] if found else None


SAID: Final = [text for text in TEXTS if quoted(text) is not None]
ordinals = st.sampled_from(
    [*SAID, 0, 1, 5, 9, 10, 2**31, 2**53 + 1, 2**63 - 1, 2**64, 10**299, "1e3"]
)
dates = st.sampled_from([*SPANS, *(DateText(d) for d in UNQUOTED), NOW_MS])
whole = st.sampled_from([0, 5, "9", "10", 10, 99_999_999_999, "-1", 10**19])
RELATIONS: Final = [Op.LT, Op.LE, Op.GT, Op.GE]


def compared(names: Sequence[str], of: st.SearchStrategy[Any]) -> st.SearchStrategy[Filter]:
    """Comparisons of these attributes with such values."""
    name = st.sampled_from(sorted(names))
    return st.one_of(
        st.builds(Compare, name, st.sampled_from(RELATIONS), of),
        st.builds(Compare, name, st.sampled_from([Op.EQ, Op.NE]), st.none() | of),
        st.builds(Member, name, st.lists(of, max_size=3).map(tuple), st.booleans()),
    )


comparisons = st.one_of(
    compared(ANY, ordinals),
    st.builds(Compare, st.sampled_from(ANY), st.sampled_from([Op.EQ, Op.NE]), st.booleans()),
    compared(sorted(DATES - {"not-before"}), dates),
    compared(sorted(INTEGERS), whole),
    st.builds(Compare, st.sampled_from(ANY), st.just(Op.PREFIX), st.sampled_from(SAID)),
    st.builds(
        Compare,
        st.sampled_from([*ANY, "fulltext"]),
        st.just(Op.FULLTEXT),
        st.lists(st.tuples(st.sampled_from(["", "+ ", "| ", "-"]), st.sampled_from(WORDS))).map(
            lambda words: " ".join(a + b for a, b in words)
        ),
    ),
)
filters = st.recursive(
    comparisons,
    lambda inner: st.builds(
        lambda kind, parts: kind(tuple(parts)),
        st.sampled_from([And, Or]),
        st.lists(inner, min_size=2, max_size=4),
    ),
    max_leaves=6,
)


def written(tree: Filter) -> str:
    """Write a filter as a client would."""
    if isinstance(tree, And | Or):
        joint = " and " if isinstance(tree, And) else " or "
        return "(" + joint.join(written(item) for item in tree.items) + ")"
    if isinstance(tree, Member):
        negation = "!" if tree.negated else ""
        return f"{tree.attribute}{negation}=[{', '.join(_value(v) for v in tree.values)}]"
    return f"{tree.attribute} {tree.op} {_value(tree.value)}"


def _value(value: Value) -> str:
    if isinstance(value, str) and not isinstance(value, DateText):
        return quoted(value) or ""
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value)) or str(value)


class UndoError(Exception):
    """Carries what was found out of a transaction that must leave nothing behind."""


@pytest.fixture(scope="module", params=BACKENDS)
def empty(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store without a job, after each example too."""
    with database(request, request.param, tmp_path_factory.mktemp("model")) as url:
        store = open_store(url, Clock())
        store.start()
        yield store
        store.stop()


def searched(
    store: Store, documents: list[Document], query: Query
) -> tuple[Sequence[Document], list[str], int]:
    """Return documents as they are stored, the ids that a query finds, and its count."""

    def unit(connection: Connection) -> None:
        stored = insert_jobs(connection, documents, NOW_MS)
        page = run(connection, JOBS, query, NOW_MS)
        raise UndoError(stored, [str(d["id"]) for d in page.documents], page.count)

    with pytest.raises(UndoError) as undone:
        store.database.write(unit)
    found: tuple[Sequence[Document], list[str], int] = undone.value.args
    return found


def jobs_of(given_: list[dict[str, Any]]) -> list[Document]:
    return [{**document(), **more} for more in given_]


_SETTINGS: Final = settings(
    max_examples=200, deadline=None, suppress_health_check=list(HealthCheck)
)


@_SETTINGS
@given(given_=st.lists(attributes, min_size=1, max_size=6), tree=filters)
def test_sql_finds_what_a_plain_evaluator_finds(
    empty: Store, given_: list[dict[str, Any]], tree: Filter
) -> None:
    parsed = parse_filter(written(tree))
    stored, found, count = searched(empty, jobs_of(given_), Query(parsed))
    expected = {str(d["id"]) for d in stored if holds(parsed, d, SPANS)}
    assert set(found) == expected, written(tree)
    assert count == len(found) == len(expected)


@_SETTINGS
@given(tree=filters)
def test_what_is_written_is_read_as_it_was_meant(tree: Filter) -> None:
    """Or the test above would compare two readings of the same mistake."""

    def flat(node: Filter) -> Filter:
        if not isinstance(node, And | Or):
            return node
        items: list[Filter] = []
        for item in map(flat, node.items):
            items.extend(item.items if isinstance(item, type(node)) else [item])
        return type(node)(tuple(items))

    assert parse_filter(written(tree)) == flat(tree)


@_SETTINGS
@given(
    given_=st.lists(attributes, min_size=1, max_size=6),
    name=st.sampled_from([*ANY, *sorted(DATES), *sorted(INTEGERS)]),
    descending=st.booleans(),
)
def test_sql_sorts_as_a_plain_evaluator_does(
    empty: Store, given_: list[dict[str, Any]], name: str, descending: bool
) -> None:
    query = Query(orderby=[(name, descending)])
    stored, found, _ = searched(empty, jobs_of(given_), query)
    keys = {str(d["id"]): sort_key(d, name, descending=descending) for d in stored}

    def compare(left: Any, right: Any) -> int:
        for a, b in zip(keys[left], keys[right], strict=True):
            if a != b:
                if a is None or b is None:
                    return 1 if a is None else -1
                return 1 if (a > b) is not descending else -1
        return 0

    made = [str(d["id"]) for d in stored]
    assert found == sorted(made[::-1] if descending else made, key=cmp_to_key(compare))
