"""A run as its action sees it: payload, progress, log, and interruption."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydantic import BaseModel

from executor.run import LOG_LIMIT, Run
from job_engine.errors import ActionFailedError, Cancelled, ClaimLost, PlatformFaultError
from job_engine.model import Fence, Job
from job_engine.plugins import Action, Context, Result, action
from job_engine.queue import QueueClaim, Registration


class Payload(BaseModel):
    text: str = ""


def make_run(
    tmp_path: Path,
    of: Action[Payload],
    payload: str | None = None,
    updates: list[Run] | None = None,
) -> Run:
    fence = Fence(1, 1)
    return Run(
        job=Job(id="job/1", action=of.name, payload=payload),
        claim=QueueClaim("entry-999-0000000000", "job/1", fence, Registration(1, "/x", 1)),
        action=of,
        collaborators={},
        scratch_root=tmp_path,
        on_update=(updates if updates is not None else []).append,
    )


@action("echo", payload=Payload)
def echo(context: Context[Payload]) -> Result:
    context.log("one\ntwo")
    context.progress(50, "half")
    (context.scratch / "file").write_text("x")
    return Result(message=context.payload.text)


def test_an_action_runs_with_its_payload_and_leaves_no_scratch(tmp_path: Path) -> None:
    run = make_run(tmp_path, echo, '{"text": "hi"}')
    assert run.execute() == Result(message="hi")
    assert list(tmp_path.iterdir()) == []
    update = run.take_update()
    assert (update.progress, update.status_message, update.log) == (50, "half", ["one", "two"])
    assert run.take_update().log == []


@pytest.mark.parametrize("payload", ["{", "[]", '{"text": 5}'])
def test_a_payload_that_does_not_fit_fails_the_job(tmp_path: Path, payload: str) -> None:
    ended = make_run(tmp_path, echo, payload).execute()
    assert isinstance(ended, ActionFailedError)
    assert "does not fit" in ended.message


def test_an_interruption_closes_lent_resources_and_passes_except_exception(tmp_path: Path) -> None:
    entered, closed = threading.Event(), threading.Event()
    ended = []

    @action("stubborn")
    def stubborn(context: Context[BaseModel]) -> None:
        with context.lend(closed.set):
            entered.set()
            closed.wait(10)
            try:
                context.progress(1)
            except Exception:  # noqa: BLE001 - what a careless action does
                pytest.fail("an interruption must pass `except Exception`")

    run = make_run(tmp_path, stubborn)
    thread = threading.Thread(target=lambda: ended.append(run.execute()))
    thread.start()
    assert entered.wait(5)
    run.interrupt(Cancelled())
    thread.join(5)
    assert isinstance(ended[0], Cancelled)


def test_a_lost_claim_overrides_any_other_order(tmp_path: Path) -> None:
    run = make_run(tmp_path, echo)
    run.interrupt(Cancelled())
    run.interrupt(ClaimLost())
    run.interrupt(Cancelled())
    assert isinstance(run.interruption, ClaimLost)


def test_sleep_ends_at_once_when_interrupted(tmp_path: Path) -> None:
    started = threading.Event()

    @action("sleeper")
    def sleeper(context: Context[BaseModel]) -> None:
        started.set()
        context.sleep(60)

    run = make_run(tmp_path, sleeper)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(run.execute()))
    thread.start()
    assert started.wait(5)
    run.interrupt(Cancelled())
    thread.join(5)
    assert not thread.is_alive()


def test_a_flood_of_log_lines_is_cut_with_a_note(tmp_path: Path) -> None:
    run = make_run(tmp_path, echo)
    for _ in range(LOG_LIMIT // 8000 + 5):
        run.log("x" * 8000)
    lines = run.take_update().log
    assert sum(map(len, lines)) <= LOG_LIMIT + 100
    assert "the log is full" in lines[-1]


def test_a_collaborator_that_needs_do_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlatformFaultError, match="needs"):
        make_run(tmp_path, echo).need(Path)


def test_a_removed_scratch_root_is_made_again(tmp_path: Path) -> None:
    run = make_run(tmp_path / "tidied" / "up", echo, '{"text": "hi"}')
    assert run.execute() == Result(message="hi")


def test_lent_resources_are_closed_without_a_new_thread_if_none_can_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lost-means-stop: of many runs that are interrupted, the first must not spare the others."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    closed = threading.Event()
    run = make_run(tmp_path, echo)
    with run.lend(closed.set), monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        run.interrupt(ClaimLost())
    assert closed.is_set()
