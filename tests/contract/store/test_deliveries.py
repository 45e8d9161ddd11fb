"""Messages of webhooks are held by claims, and tried until they arrive."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from job_engine.errors import ConflictError, ForbiddenError
from job_engine.model import Fence
from job_engine.model.protocol.feed import EntryItem
from job_engine.model.webhooks import ACTION, BATCH
from job_engine.store.base import Document
from job_engine.store.jobs.outbox import RETRY, senders
from job_engine.store.store import Store
from job_engine.store.tables import webhook_outbox
from job_engine.store.webhooks.deliveries import Deliveries, running_senders
from job_engine.store.webhooks.results import KEPT_MS, Claimed
from tests.contract.store.support import (
    FENCE,
    ON_SQLITE,
    Clock,
    add,
    claim,
    entry,
    finish,
    plan,
    running,
)
from tests.contract.store.webhooks import (
    HOOK,
    SECRET,
    add_secret,
    allow,
    answered,
    sender,
    tell,
    told,
    waiting_senders,
)


@pytest.fixture(autouse=True)
def _secret(store: Store) -> None:
    add_secret(store)


def test_a_delivered_message_is_not_sent_again(store: Store) -> None:
    tell(store)
    by = sender(store)
    taken = store.deliveries.take(by)
    assert [t.attempt for t in taken] == [1]
    assert store.deliveries.settle(by, answered(taken, 200, duration_ms=12)) == [True]
    assert store.deliveries.take(by) == []
    after = store.resources.get(taken[0].delivery["id"])
    assert (after["state"], after["attempts"]) == ("DELIVERED", 1)
    assert (after["log"][0]["status"], after["log"][0]["duration-ms"]) == (200, 12)
    assert waiting_senders(store) == []


def test_failed_messages_are_retried_with_growing_delays(store: Store, clock: Clock) -> None:
    without_luck = Deliveries(store.database, clock, luck=lambda: 0.0)
    tell(store)
    ids, waits = set(), []
    for n in range(RETRY.max_attempts):
        by = sender(store, Fence(1, 100 + n))
        taken = without_luck.take(by)
        assert [t.attempt for t in taken] == [n + 1]
        ids |= {t.delivery["id"] for t in taken}
        without_luck.settle(by, answered(taken, 500))
        assert without_luck.take(by) == []
        finish(store, by.job, by.fence)
        if n + 1 < RETRY.max_attempts:
            (following,) = waiting_senders(store)
            wait_ms = (store.jobs.get_job(following).not_before_ms or 0) - clock()
            waits.append(wait_ms)
            clock.advance(wait_ms / 1000)
    assert waits[:4] == [4_000, 8_000, 16_000, 32_000]
    assert waits[-1] == 6 * 3_600_000
    assert len(ids) == 1
    after = store.resources.get(ids.pop())
    assert (after["state"], after["error"]) == ("FAILED", "It answered 500.")
    assert after["attempts"] == RETRY.max_attempts
    assert waiting_senders(store) == []


@pytest.mark.parametrize("end", [{"status": 410}, {"status": None, "refused": True, "error": "no"}])
def test_some_answers_are_final(store: Store, end: dict[str, Any]) -> None:
    tell(store)
    by = sender(store)
    store.deliveries.settle(by, answered(store.deliveries.take(by), **end))
    assert [state for *_, state in told(store)] == ["FAILED"]
    assert store.deliveries.take(by) == []
    assert waiting_senders(store) == []


def test_an_interrupted_sender_leaves_its_messages_to_the_next_claim(store: Store) -> None:
    """Killed between sending and saying so: the same message again, under the same id."""
    tell(store)
    dead = sender(store, Fence(1, 50))
    (first,) = store.deliveries.take(dead)
    assert claim(store, dead.job, entry(900), Fence(1, 51), actions=(ACTION,)).answer.runs
    heir = Claimed(dead.job, Fence(1, 51))
    with pytest.raises(ConflictError):
        store.deliveries.settle(dead, answered([first]))
    (again,) = store.deliveries.take(heir)
    assert again.delivery["id"] == first.delivery["id"]
    assert again.delivery["body"] == first.delivery["body"]
    assert again.attempt == 2
    assert store.deliveries.settle(heir, answered([first])) == [False]
    assert store.deliveries.settle(heir, answered([again])) == [True]


def test_two_senders_never_hold_the_same_message(store: Store) -> None:
    tell(store)
    first = sender(store, Fence(1, 50))
    mine = store.deliveries.take(first)
    tell(store)
    second = sender(store, Fence(1, 51))
    theirs = store.deliveries.take(second)
    assert len(mine) == len(theirs) == 1
    assert mine[0].delivery["id"] != theirs[0].delivery["id"]
    assert store.deliveries.settle(second, answered(mine)) == [False]


def test_an_answer_that_was_lost_is_given_again(store: Store) -> None:
    tell(store)
    by = sender(store)
    lost = store.deliveries.take(by)
    (again,) = store.deliveries.take(by)
    assert again.delivery["id"] == lost[0].delivery["id"]


def test_a_cancelled_sender_frees_what_it_held(store: Store) -> None:
    tell(store)
    first = sender(store, Fence(1, 50))
    store.deliveries.take(first)
    store.jobs.cancel(first.job, allow, None)
    with pytest.raises(ConflictError):
        store.deliveries.take(first)
    tell(store)
    assert len(store.deliveries.take(sender(store, Fence(1, 51)))) == 2


def test_messages_left_by_a_cancelled_sender_are_found(store: Store) -> None:
    tell(store)
    first = sender(store, Fence(1, 50))
    store.deliveries.take(first)
    store.deliveries.watch_over()
    assert waiting_senders(store) == []  # one runs
    store.jobs.cancel(first.job, allow, None)
    store.deliveries.watch_over()
    store.deliveries.watch_over()
    (following,) = waiting_senders(store)
    assert store.deliveries.take(sender(store, Fence(1, 51)))
    assert following != first.job


def test_only_a_sender_may_take(store: Store) -> None:
    tell(store)
    with pytest.raises(ConflictError):
        store.deliveries.take(Claimed(running(store), FENCE))


def test_a_closing_sender_hands_over(store: Store) -> None:
    tell(store)
    by = sender(store)
    assert store.deliveries.take(by, closing=True) == []
    assert len(waiting_senders(store)) == 1


def test_a_receiver_that_is_away_does_not_hold_the_others_up(store: Store, clock: Clock) -> None:
    away = {**HOOK, "url": "https://away.example.org/"}
    for _ in range(BATCH + 10):
        tell(store, away)
    tell(store, HOOK)
    by = sender(store)
    taken = store.deliveries.take(by)
    assert len(taken) == BATCH
    urls = [t.delivery["url"] for t in taken]
    assert HOOK["url"] in urls  # though it came last
    here = [t for t in taken if t.delivery["url"] == HOOK["url"]]
    gone = [t for t in taken if t.delivery["url"] != HOOK["url"]]
    no_answer = answered(gone, None, error="It did not answer.")
    store.deliveries.settle(by, [*no_answer, *answered(here)])
    # One that knocks again is enough: the rest waits for as long as it does.
    assert store.deliveries.take(by) == []
    clock.advance(10)
    assert store.deliveries.take(by)


def test_a_creator_with_many_receivers_has_one_creators_turns(store: Store, clock: Clock) -> None:
    many = [{**HOOK, "url": f"https://h{n}.example.org/hook"} for n in range(10)]
    for _ in range(BATCH // 5):
        job = add(store, callbacks=many, created_by="user/loud")
        store.jobs.cancel(job, allow, None)
    quiet = add(store, callbacks=[HOOK], created_by="user/quiet")
    store.jobs.cancel(quiet, allow, None)
    clock.advance(1)
    taken = store.deliveries.take(sender(store))
    assert len(taken) == BATCH
    assert [t.delivery["created-by"] for t in taken].count("user/quiet") == 1
    urls = {t.delivery["url"] for t in taken if t.delivery["created-by"] == "user/loud"}
    assert len(urls) == 10  # and each of its receivers has turns too


def test_a_message_whose_secret_is_gone_fails(store: Store) -> None:
    tell(store)
    store.resources.delete(SECRET, allow)
    assert store.deliveries.take(sender(store)) == []
    assert [state for *_, state in told(store)] == ["FAILED"]


def test_a_replay_is_the_same_message_and_gets_all_its_tries(store: Store) -> None:
    tell(store)
    by = sender(store)
    (first,) = store.deliveries.take(by)
    store.deliveries.settle(by, answered([first], 410))
    finish(store, by.job, by.fence)

    def refuse(_document: Document) -> None:
        raise ForbiddenError

    with pytest.raises(ForbiddenError):
        store.deliveries.replay(first.delivery["id"], refuse)
    assert waiting_senders(store) == []
    assert store.deliveries.replay(first.delivery["id"], allow)["state"] == "PENDING"
    by = sender(store, Fence(1, 60))
    (again,) = store.deliveries.take(by)
    assert (again.delivery["id"], again.attempt) == (first.delivery["id"], 2)
    assert again.delivery["body"] == first.delivery["body"]
    store.deliveries.settle(by, answered([again]))
    after = store.resources.get(first.delivery["id"])
    assert (after["state"], [a["attempt"] for a in after["log"]]) == ("DELIVERED", [1, 2])


def test_old_deliveries_are_forgotten_and_pending_ones_are_not(store: Store, clock: Clock) -> None:
    tell(store)
    by = sender(store)
    store.deliveries.settle(by, answered(store.deliveries.take(by)))
    tell(store)
    clock.advance(KEPT_MS / 1000 + 1)
    store.resources.forget_expired()
    assert [state for *_, state in told(store)] == ["PENDING"]


@ON_SQLITE
def test_the_search_for_a_sender_reads_no_backlog(store: Store) -> None:
    def steps(connection: Connection) -> list[str]:
        return plan(connection, senders(0))

    found = store.database.read(steps)
    assert not [step for step in found if step.startswith("SCAN jobs")], found
    assert len([step for step in found if "SEARCH jobs" in step]) == 3
    (running_ones,) = store.database.read(lambda c: plan(c, running_senders()))
    assert "(action=? AND state=?)" in running_ones, running_ones


def test_pushed_senders_count_as_waiting(store: Store) -> None:
    tell(store)
    (job,) = waiting_senders(store)
    assert store.feed.pushed([EntryItem(job=job, entry=entry(5))]) == [True]
    tell(store)
    assert waiting_senders(store) == [job]


def test_the_outbox_is_empty_when_all_is_over(store: Store) -> None:
    tell(store)
    by = sender(store)
    store.deliveries.settle(by, answered(store.deliveries.take(by)))
    rows = store.database.read(lambda c: c.execute(sa.select(webhook_outbox)).all())
    assert rows == []
