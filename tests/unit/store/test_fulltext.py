"""The words of a full-text comparison, and how much of it is looked at."""

from __future__ import annotations

import pytest

from job_engine.errors import InvalidFilterError
from job_engine.store.search.filter.fulltext import MAX_QUERY, Word, words_of


@pytest.mark.parametrize("blank", [" ", "+", "|", "\t", '"', "-"])
def test_blanks_between_words_are_parsed_in_linear_time(blank: str) -> None:
    """The word behind it is found, however much there is, up to what may be looked at."""
    found = list(words_of(blank * (MAX_QUERY - 1) + "x"))
    assert found[-1].text.endswith("x")
    with pytest.raises(InvalidFilterError, match="characters to look for"):
        list(words_of(blank * (MAX_QUERY + 1)))


def test_words_and_operators() -> None:
    found = list(words_of('a +b* | -"c d" '))
    assert found == [
        Word("a", both=False, negated=False),
        Word("b", both=True, negated=False),
        Word("c d", both=False, negated=True),
    ]
