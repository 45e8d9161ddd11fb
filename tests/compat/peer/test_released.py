"""The Nuvla job engine itself, as its release is in the package index (docs/cimi.md §6).

Of its actions, those that need nothing but jobs: the others work on Nuvla's own resources.
"""

from __future__ import annotations

import signal
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http.cookiejar import Cookie, LWPCookieJar
from pathlib import Path
from typing import Any, Final

import pytest
from nuvla.api import Api

from tests.compat.clients.environment import clean_environment, released
from tests.compat.peer.conftest import ADMIN
from tests.support.engine import ADMIN_PASSWORD, Engine, eventually

VERSION: Final = "5.1.4"
NUVLAS: Final = (
    *("deployment_state_new", "deployment_state_old", "deployment_set_automatic_update"),
    *("handle_trial_end", "notify_coupon_end", "nuvlabox_cluster_cleanup", "nuvlabox_offline"),
    *("update_nuvlabox_releases", "update_vulnerabilities_database", "register_usage_record"),
    *("register_usage_record_new_deployment", "refresh_customer_subscription_cache"),
)
"""Distributions that look for Nuvla's own resources."""

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter that has the release; it uses kazoo without requiring it."""
    return released("nuvla-job-engine", VERSION, "kazoo")


@pytest.fixture
def start(python: Path, engine: Engine, tmp_path: Path) -> Iterator[Start]:
    """Starts one of the release's processes, which ends with the test at the latest."""
    with ExitStack() as stack:

        def run(script: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((tmp_path / f"{script}.log").open("ab"))
            named = ("--api-url", engine.url, "--api-insecure", "--name", "peer")
            process = subprocess.Popen(
                [str(python), "-I", "-m", f"nuvla.scripts.{script}", *arguments, *named],
                env={**clean_environment(tmp_path), **environment},
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait, 20)
            stack.callback(process.kill)
            return process

        yield run


@pytest.fixture
def by_key(key: Mapping[str, str], zookeeper: str) -> list[str]:
    """Options of a process that logs in with a key, and shares our queue."""
    zk = ["--zk-hosts", zookeeper]
    return [*zk, "--api-key", key["key"], "--api-secret", key["secret"]]


def add(api: Api, action: str, **attributes: Any) -> str:
    """Create a job; keywords have underscores for dashes."""
    named = {name.replace("_", "-"): value for name, value in attributes.items()}
    return str(api.add("job", {"action": action, **named}).data["resource-id"])


def finished(api: Api, job: str, state: str) -> Any:
    """Wait for the end of a job, and return it."""
    done = ("SUCCESS", "FAILED", "CANCELED")
    document = eventually(lambda: (d := api.get(job).data)["state"] in done and d, what=job)
    assert isinstance(document, dict)
    assert document["state"] == state, document
    return document


def test_its_executor_runs_our_jobs(api: Api, start: Start, by_key: list[str]) -> None:
    executor = start("job_executor", *by_key)
    unknown = add(api, "foreign")
    old = add(api, "foreign_too", version=1)
    cleanup = add(api, "cleanup_jobs", target_resource={"href": "job"}, priority=50)
    bulk = add(api, "bulk_foreign", execution_mode="pull")
    children = [add(api, "foreign", execution_mode="pull", parent_job=bulk) for _ in "123"]
    api.operation(api.get(bulk), "cancel")

    told = finished(api, unknown, "FAILED")["status-message"]
    assert told == f"Not implemented action {unknown}: foreign"
    told = finished(api, old, "FAILED")["status-message"]
    assert told == f"Job v1 is not supported by Job engine v{VERSION}"
    done = finished(api, cleanup, "SUCCESS")
    assert done["status-message"].startswith("Cleanup of completed jobs finished. Removed ")
    assert (done["progress"], done["return-code"]) == (100, 0)
    for child in children:
        finished(api, child, "CANCELED")

    executor.send_signal(signal.SIGTERM)
    assert executor.wait(30) == 0


def test_its_distributor_feeds_its_executor(api: Api, start: Start, by_key: list[str]) -> None:
    bulk = add(api, "bulk_foreign", execution_mode="pull")
    children = [
        add(api, "foreign", execution_mode="pull", parent_job=bulk, target_resource={"href": of})
        for of in ("user/jane", "user/joe")
    ]
    running = {"state": "RUNNING", "tags": ["monitor"], "status-message": '{"success": []}'}
    api.edit(bulk, running)
    for child, state in zip(children, ("SUCCESS", "FAILED"), strict=True):
        api.edit(child, {"state": state})
    every_second = ["--distribution-interval", "monitor_bulk_jobs:1", "cleanup_jobs:60"]
    start("job_distributor", *by_key, "--distribution-exclude", *NUVLAS, *every_second)
    start("job_executor", *by_key)

    finished(api, bulk, "SUCCESS")
    look = "action='cleanup_jobs' and state='SUCCESS' and created>'now-1m'"
    eventually(lambda: api.search("job", filter=look, last=0).count, what="a cleanup")


@pytest.mark.parametrize("login", ["password", "header", "cookies"])
def test_its_executor_as_an_agent_starts_it(
    api: Api, start: Start, engine: Engine, login: str
) -> None:
    """One job, by its id, without a queue."""
    job = add(api, "cleanup_jobs", execution_mode="pull")
    options, environment = {
        "password": (["--api-user", "admin", "--api-pass", ADMIN_PASSWORD], {}),
        "header": (["--api-authn-header", ADMIN], {}),
        "cookies": ([], {"JOB_COOKIES": cookies(engine)}),
    }[login]
    executor = start("job_executor", "--job-id", job, *options, **environment)
    assert executor.wait(30) == 0
    finished(api, job, "SUCCESS")


def cookies(engine: Engine) -> str:
    """A session's cookies as an agent hands them on: a file of libwww-perl, in base64."""
    with engine.admin().session as session:
        jar = LWPCookieJar()
        for cookie in session.cookies:
            assert isinstance(cookie, Cookie)
            jar.set_cookie(cookie)
    text = f"#LWP-Cookies-2.0\n{jar.as_lwp_str(ignore_discard=True)}"
    return b64encode(text.encode()).decode()
