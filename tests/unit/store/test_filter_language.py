"""The filter language accepts and refuses what its contract lists (docs/cimi.md §2)."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_engine.errors import InvalidFilterError
from job_engine.store.search.filter import parse_filter
from job_engine.store.search.filter.nodes import And, Compare, DateText, Member, Op, Or
from tests.support.filters import INVALID, VALID


@pytest.mark.parametrize("text", VALID.values(), ids=VALID.keys())
def test_valid_filters_are_accepted(text: str) -> None:
    parse_filter(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=f"{key}-{i}")
        for key, texts in INVALID.items()
        for i, text in enumerate(texts)
    ],
)
def test_invalid_filters_are_refused(text: str) -> None:
    with pytest.raises(InvalidFilterError, match=r"^Invalid CIMI filter\. "):
        parse_filter(text)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        (VALID["V3"], Compare("state", Op.EQ, "QUEUED")),
        (VALID["V8"], Member("state", ("QUEUED", "RUNNING"))),
        (VALID["V9"], Member("state", ("SUCCESS", "FAILED", "CANCELED"), negated=True)),
        (VALID["V16"], Compare("progress", Op.GT, 3)),
        (VALID["V19"], Compare("started", Op.EQ, None)),
        (VALID["V43"], Compare("name", Op.EQ, r"it\'s")),
        (VALID["V46"], Compare("online", Op.EQ, True)),
        (VALID["V59"], Compare("a", Op.EQ, 7)),
        (VALID["V60"], Compare("created", Op.LT, DateText("2024-01-01"))),
        (VALID["V61"], And((Compare("a", Op.EQ, 1), Compare("roid", Op.EQ, 2)))),
        (
            VALID["V37"],
            Or(
                (
                    Compare("a", Op.EQ, 1),
                    And((Compare("b", Op.EQ, 2), Compare("c", Op.EQ, 3))),
                )
            ),
        ),
        ("true='x'", Compare("true", Op.EQ, "x")),
        ("nullable='x'", Compare("nullable", Op.EQ, "x")),
        (
            "order='x'or trueness=1",
            Or((Compare("order", Op.EQ, "x"), Compare("trueness", Op.EQ, 1))),
        ),
        (f"a={'0' * 30}7", Compare("a", Op.EQ, 7)),
        ("a=trueand b=1", And((Compare("a", Op.EQ, True), Compare("b", Op.EQ, 1)))),
    ],
)
def test_filters_mean_what_they_should(text: str, tree: object) -> None:
    assert parse_filter(text) == tree


def test_thousands_of_terms_are_parsed_quickly() -> None:
    text = " or ".join(f"id='job/{n}' and progress={n}" for n in range(2000))
    began = time.perf_counter()
    tree = parse_filter(text)
    assert isinstance(tree, Or)
    assert len(tree.items) == 2000
    assert time.perf_counter() - began < 5


def test_depth_is_limited_but_not_inside_strings() -> None:
    with pytest.raises(InvalidFilterError, match="parentheses"):
        parse_filter("(" * 3000 + "a=1" + ")" * 3000)
    parse_filter(f"a='{'(' * 3000}'")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("state=QUEUED", "column 7: not expected: 'QUEUED'; texts and dates stand in quotes"),
        ("created<now-7d", "texts and dates stand in quotes"),
        ("state = ['A']", "no blank may stand before a list"),
        ("state='QUEUED", "the quote is not closed"),
        ("a=True", "true, false and null have small letters"),
        ("progress=-1", "digits only"),
        ("progress=3.2", "digits only"),
        ("a.b='x'", "divided by /"),
        ("a=1 AND b=2", "joined by `and` and `or`"),
        ("a=1 && b=2", "joined by `and` and `or`"),
        ("a=1 b=2", "joined by `and` and `or`"),
        ("a='x' or", "the end of \"a='x' or\": something is missing"),
        ("state", "the end of 'state': something is missing"),
    ],
)
def test_parse_errors_have_a_hint(text: str, hint: str) -> None:
    with pytest.raises(InvalidFilterError, match=re.escape(hint)):
        parse_filter(text)


@given(st.text(alphabet="ab=!<>^[]()'\" ,1-/:\\andortruenull\n"))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    # Any other exception than this one fails the test.
    with contextlib.suppress(InvalidFilterError):
        parse_filter(text)
