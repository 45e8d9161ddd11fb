"""Entry names: parsed by pattern, ordered modulo 2³²."""

from __future__ import annotations

import pytest

from job_engine.queue.base import EntryName, in_order, job_id_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("entry-050-0000000123", (50, 123)),
        ("entry-999--2147483648", (999, -(2**31))),
        ("entry-5-0000000001", None),
        ("lock-050-0000000001", None),
        ("entry-050-0000000001x", None),
    ],
)
def test_names(text: str, expected: tuple[int, int] | None) -> None:
    entry = EntryName.parse(text)
    assert (entry and (entry.priority, entry.sequence)) == expected


def test_order_survives_the_wrap_of_the_sequence() -> None:
    before, after = "entry-100-2147483647", "entry-100--2147483648"
    urgent = "entry-010--2147483640"
    for names in ([before, after, urgent], [after, urgent, before]):
        assert [e.text for e in in_order(names)] == [urgent, before, after]


@pytest.mark.parametrize("data", [b"job/abc", b"abc", b" abc\n"])
def test_job_ids(data: bytes) -> None:
    assert job_id_of(data) == "job/abc"


@pytest.mark.parametrize("data", [b"", b"\0\xff\xfe", b"job/\0", bytes(5000)])
def test_garbage_becomes_an_id_that_can_be_asked_for(data: bytes) -> None:
    """So that it is answered `gone`, and consumed."""
    assert job_id_of(data).startswith("job/")
    assert "\0" not in job_id_of(data)
