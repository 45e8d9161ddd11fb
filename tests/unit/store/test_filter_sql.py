"""The SQL of filters: for either dialect, and never with a word of the filter in it."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from sqlalchemy import ColumnElement, Dialect, select
from sqlalchemy.dialects import postgresql, sqlite

from job_engine.store.search.filter import compile_filter, parse_filter
from job_engine.store.search.query import Query, condition_of
from job_engine.store.search.source import BLOBS, JOBS, Source, resources_of
from tests.support.filters import VALID

NOW_MS: Final = 1_700_000_000_000
DIALECTS: Final[dict[str, Dialect]] = {
    "sqlite": sqlite.dialect(),
    "postgresql": postgresql.dialect(),  # type: ignore[no-untyped-call]
}
OTHERS_WORDS: Final = {"sqlite": re.compile("jsonb|COLLATE|::"), "postgresql": re.compile("json_")}
SOURCES: Final = {"job": JOBS, "blob": BLOBS, "user": resources_of("user")}

MARK: Final = "zq7"
MARKED: Final = [
    f"{MARK}='{MARK}'",
    f"name='{MARK}\"; DROP TABLE jobs; --'",
    f"name=\"{MARK}' or ''='\"",
    f"{MARK}/{MARK}!=['{MARK}', {MARK!r}]",
    f"{MARK}:{MARK}^='{MARK}'",
    f"state='{MARK}' or action^='{MARK}' or payload>'{MARK}'",
    f"{MARK}>'{MARK}' and {MARK}=null and {MARK}=true",
    f"fulltext=='{MARK} -{MARK} +\"{MARK} {MARK}\"'",
    f"target-resource/{MARK}=='{MARK}'",
    " or ".join(f"{MARK}x{n}='{MARK}' and {MARK}>{n}" for n in range(500)),
]
NUMBERS: Final = [
    "progress=4711 or a=4711 or a>4711 or progress<'4711'",
    "created=4711 or created>'4711000000000'",
    "a='4711.4711'",
]


def sql_of(condition: ColumnElement[Any], source: Source, dialect: Dialect) -> str:
    """The text of a search, as the driver gets it."""
    statement = select(source.table.c[0]).where(condition)
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    return str(compiled)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("text", VALID.values(), ids=VALID.keys())
def test_every_valid_filter_has_sql_of_its_dialect_only(text: str, dialect: str) -> None:
    for source in (JOBS, SOURCES["user"]):
        condition = compile_filter(parse_filter(text), source, NOW_MS)
        assert not OTHERS_WORDS[dialect].search(sql_of(condition, source, DIALECTS[dialect]))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("text", MARKED, ids=range(len(MARKED)))
def test_no_text_of_a_filter_is_in_its_sql(text: str, source: str, dialect: str) -> None:
    """Neither values nor names of attributes: all of it is bound."""
    query = Query(parse_filter(text), claims={f"user/{MARK}"})
    condition = condition_of(SOURCES[source], query, NOW_MS)
    assert MARK not in sql_of(condition, SOURCES[source], DIALECTS[dialect])


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("text", NUMBERS)
def test_no_number_of_a_filter_is_in_its_sql(text: str, dialect: str) -> None:
    condition = compile_filter(parse_filter(text), JOBS, NOW_MS)
    assert "4711" not in sql_of(condition, JOBS, DIALECTS[dialect])
