"""Any filter over any documents: SQL finds what a plain evaluator finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cmp_to_key
from random import Random
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from job_engine.model.timestamps import format_ms
from job_engine.store.base import Document
from job_engine.store.factory import open_store
from job_engine.store.jobs.inserts import insert_jobs
from job_engine.store.search.filter import parse_filter
from job_engine.store.search.filter.nodes import (
    And,
    Compare,
    DateText,
    Filter,
    Member,
    Op,
    Or,
    Value,
)
from job_engine.store.search.query import Page, Query, run
from job_engine.store.search.source import JOBS
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
ORDINALS: Final = [*SAID, 0, 1, 5, 9, 10, 2**31, 2**53 + 1, 2**63 - 1, 2**64, 10**299, "1e3"]
WHEN: Final = [*SPANS, *map(DateText, sorted(UNQUOTED)), NOW_MS]
WHOLE: Final = [0, 5, "9", "10", 10, 99_999_999_999, "-1", 10**19]
RELATIONS: Final = [Op.LT, Op.LE, Op.GT, Op.GE]


class Draw:
    """Draws documents and filters from chance that hypothesis decides, and can repeat.

    Its own strategies would shrink what fails, but draw so much alike that in hundreds of
    examples whole operators met no value that they hold for.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def one(self, *of: Any) -> Any:
        return self._chance.choice(of)

    def some(self, make: Callable[[], Any], at_least: int, at_most: int) -> list[Any]:
        return [make() for _ in range(self._chance.randint(at_least, at_most))]

    # --- documents ------------------------------------------------------------

    def document(self) -> Document:
        made: Document = {
            "target-resource": {"href": self.one(*TEXTS), "a": self.json()},
            "progress": self.one(0, 5, 9, 10, 100),
            "priority": self.one(0, 9, 10, 999),
            **{name: self.json() for name in ("a", "b", "tags", "x:y", "affected-resources")},
            **{name: self.one(*TEXTS) for name in ("name", "description", "payload", "parent")},
            **{name: self.one(*TIMES) for name in ("started", "expiry")},
            "status-message": self.one(*TEXTS),
        }
        kept = {k: v for k, v in made.items() if self.one(True, True, False)}
        return {**document(), **kept}

    def scalar(self) -> Any:
        return self.one(None, True, False, self.one(*NUMBERS), self.one(*TEXTS))

    def item(self) -> Any:
        return self.one(self.scalar, self.scalar, lambda: self.some(self.scalar, 0, 3))()

    def nested(self) -> Any:
        return {key: self.item() for key in self.some(lambda: self.one("a", "b", "href"), 0, 2)}

    def json(self) -> Any:
        return self.one(
            self.item, self.nested, lambda: self.some(self.one(self.item, self.nested), 0, 3)
        )()

    # --- filters --------------------------------------------------------------

    def filter(self, depth: int = 2) -> Filter:
        if depth and self.one(True, False):
            items = self.some(lambda: self.filter(depth - 1), 2, 3)
            return self.one(And, Or)(tuple(items))  # type: ignore[no-any-return]
        return self.comparison()

    def comparison(self) -> Filter:
        name, op = self.one(*ANY), self.one(Op.EQ, Op.NE)
        match self.one(*range(8)):
            case 0 | 1:
                return self.compared(name, ORDINALS)
            case 2 | 3:
                return self.compared(self.one(*sorted(DATES - {"not-before"})), WHEN)
            case 4:
                return self.compared(self.one(*sorted(INTEGERS)), WHOLE)
            case 5:
                return Compare(name, op, self.one(True, False))
            case 6:
                return Compare(name, Op.PREFIX, self.one(*SAID))
            case _:
                words = self.some(lambda: self.one("", "+ ", "| ", "-") + self.one(*WORDS), 0, 3)
                return Compare(self.one(name, "fulltext"), Op.FULLTEXT, " ".join(words))

    def compared(self, name: str, values: Sequence[Any]) -> Filter:
        match self.one(*range(4)):
            case 0 | 1:
                return Compare(name, self.one(*RELATIONS), self.one(*values))
            case 2:
                return Compare(name, self.one(Op.EQ, Op.NE), self.one(None, *values, *values))
            case _:
                several = tuple(self.some(lambda: self.one(*values), 0, 3))
                return Member(name, several, self.one(True, False))


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
    store: Store, documents: list[Document], queries: Sequence[Query]
) -> tuple[Sequence[Document], list[Page]]:
    """Return documents as they are stored, and what queries find among them."""

    def unit(connection: Connection) -> None:
        stored = insert_jobs(connection, documents, NOW_MS)
        raise UndoError(stored, [run(connection, JOBS, query, NOW_MS) for query in queries])

    with pytest.raises(UndoError) as undone:
        store.database.write(unit)
    found: tuple[Sequence[Document], list[Page]] = undone.value.args
    return found


def ids(documents: Sequence[Document]) -> list[str]:
    return [str(found["id"]) for found in documents]


_SETTINGS: Final = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
chances = st.randoms(use_true_random=True)


@_SETTINGS
@given(chance=chances)
def test_sql_finds_what_a_plain_evaluator_finds(empty: Store, chance: Random) -> None:
    draw = Draw(chance)
    trees = [parse_filter(written(draw.filter())) for _ in range(40)]
    documents = draw.some(draw.document, 1, 12)
    stored, pages = searched(empty, documents, [Query(tree) for tree in trees])
    for tree, page in zip(trees, pages, strict=True):
        expected = {str(d["id"]) for d in stored if holds(tree, d, SPANS)}
        assert set(ids(page.documents)) == expected, (written(tree), stored)
        assert page.count == len(page.documents) == len(expected)


@_SETTINGS
@given(chance=chances)
def test_a_written_filter_parses_to_the_same_tree(chance: Random) -> None:
    """Or the test above would compare two readings of the same mistake."""

    def flat(node: Filter) -> Filter:
        if not isinstance(node, And | Or):
            return node
        items: list[Filter] = []
        for item in map(flat, node.items):
            items.extend(item.items if isinstance(item, type(node)) else [item])
        return type(node)(tuple(items))

    for _ in range(20):
        tree = Draw(chance).filter()
        assert parse_filter(written(tree)) == flat(tree)


@_SETTINGS
@given(chance=chances)
def test_sql_sorts_as_a_plain_evaluator_does(empty: Store, chance: Random) -> None:
    draw = Draw(chance)
    names = [*ANY, *sorted(DATES), *sorted(INTEGERS)]
    orders = [(draw.one(*names), draw.one(True, False)) for _ in range(10)]
    documents = draw.some(draw.document, 1, 12)
    stored, pages = searched(empty, documents, [Query(orderby=[order]) for order in orders])
    for (name, descending), page in zip(orders, pages, strict=True):
        made = ids(stored)
        in_line = sorted(
            made[::-1] if descending else made, key=cmp_to_key(_order(stored, name, descending))
        )
        assert ids(page.documents) == in_line, (name, descending, stored)


def _order(stored: Sequence[Document], name: str, descending: bool) -> Callable[[str, str], int]:
    keys = {str(d["id"]): sort_key(d, name, descending=descending) for d in stored}

    def compare(left: str, right: str) -> int:
        for a, b in zip(keys[left], keys[right], strict=True):
            if a != b:
                if a is None or b is None:
                    return 1 if a is None else -1
                return 1 if (a > b) is not descending else -1
        return 0

    return compare
