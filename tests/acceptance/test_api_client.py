"""What the page for API clients shows, run as it stands there; and what jobs can do besides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from job_engine.client import Api, Job, JobFailedError
from job_engine.model import JobState
from tests.support.engine import Engine, eventually

PAGE = Path(__file__).parents[2] / "docs" / "api-client.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, zookeeper_server: str) -> Iterator[Engine]:
    """An engine that the module's tests share."""
    zk = KazooClient(zookeeper_server)
    zk.start()
    zk.create("/test-api-client")
    zk.stop()
    zk.close()
    directory = tmp_path_factory.mktemp("api-client")
    with Engine(directory, f"{zookeeper_server}/test-api-client") as engine:
        engine.start()
        eventually(lambda: "executor.registered" in engine.log("executor"))
        yield engine


@pytest.fixture
def api(engine: Engine) -> Iterator[Api]:
    api = engine.admin()
    yield api
    api.close()


def test_the_page_runs_as_it_stands(
    engine: Engine,
    api: Api,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    template = {"href": "credential-template/generate-api-key"}
    made = api.add("credential", {"template": template}).data
    names: dict[str, Any] = {}
    for number, block in enumerate(BLOCK.findall(PAGE.read_text())):
        text = (
            block.replace("http://127.0.0.1:8020", engine.url)
            .replace("credential/…", made["resource-id"])
            .replace("the secret", made["secret-key"])
        )
        exec(compile(text, f"{PAGE.name}, example {number + 1}", "exec"), names)
    names["api"].close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "SUCCESS None"
    assert "0" in lines  # the return code
    assert "CANCELED" in lines
    assert any("on purpose" in line for line in lines)
    assert lines[-4:-1] == ["True", "20", "20"]
    assert lines[-1].endswith("SUCCESS")


def test_a_job_from_its_creation_to_its_end(api: Api) -> None:
    job = api.submit("noop", {"seconds": 0.3}, name="told", priority=5)
    assert (job.state, job.progress, job.action) == (JobState.QUEUED, 0, "noop")
    changes: list[Job] = []
    done = job.wait(60, changes.append)
    assert (done.state, done.return_code, done.progress) == (JobState.SUCCESS, 0, 100)
    assert done.check() is done
    assert changes[-1] == done
    assert job.state is JobState.QUEUED  # the old one is as it was
    assert done.document["name"] == "told"
    assert done.result() is None
    assert done.cancel() == done.refresh()  # over already
    assert done.resubmit(key="again").id == done.resubmit(key="again").id != done.id
    assert list(done.log(follow=True)) == []


def test_a_job_that_fails_or_takes_too_long(api: Api) -> None:
    with pytest.raises(JobFailedError, match="the reason"):
        api.submit("noop", {"fail": "the reason"}).wait(60).check()
    waiting = api.submit("noop", {"seconds": 600})
    with pytest.raises(TimeoutError, match="still"):
        waiting.wait(0.2)
    assert waiting.cancel().state is JobState.CANCELED


def test_a_request_is_one_job_however_often_it_is_sent(api: Api) -> None:
    first = api.submit("noop", key="mine")
    assert api.submit("noop", key="mine").id == first.id
    assert api.submit("noop").id != first.id
