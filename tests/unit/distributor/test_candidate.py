"""When a leader had better let another one lead."""

from __future__ import annotations

import pytest
import requests

from distributor.candidate import Duty, Leadership, Term
from job_engine.client.refusals import RefusedError
from job_engine.errors import ApiUnavailableError, QueueError


def refusal(status: int) -> RefusedError:
    response = requests.Response()
    response.status_code = status
    return RefusedError("refused", response)


AWAY = ApiUnavailableError("no answer")
FORBIDDEN = refusal(403)
BROKEN = refusal(400)
UNANSWERED = QueueError("no answer")


class Failing(Duty):
    """Fails at each step as it is told; None: it does its work."""

    def __init__(self, *failures: Exception | None) -> None:
        self._failures = iter(failures)

    def take_over(self, leadership: Leadership) -> None:
        pass

    def step(self, leadership: Leadership) -> float:
        failure = next(self._failures)
        if failure is not None:
            raise failure
        return 1.0


@pytest.mark.parametrize(
    ("failures", "helpless"),
    [
        ([FORBIDDEN], [True]),
        ([AWAY, AWAY, AWAY], [False, True, True]),
        ([AWAY, None, AWAY], [False, False, False]),
        ([AWAY, UNANSWERED, AWAY], [False, False, False]),
        ([BROKEN, BROKEN], [False, False]),
        ([FORBIDDEN, None], [True, False]),
    ],
)
def test_a_leader_is_helpless_while_the_api_refuses_it_or_stays_away(
    failures: list[Exception | None], helpless: list[bool]
) -> None:
    term = Term("noop", Failing(*failures), Leadership("/election/noop/1", lambda: True))
    found = []
    for _ in failures:
        assert term.step() is not None
        found.append(term.helpless)
    assert found == helpless
