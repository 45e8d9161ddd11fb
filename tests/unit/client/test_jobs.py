"""What programs do with the client, against a real API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from job_engine.client import Api, RefusedError, job_document
from job_engine.client import api as client_api
from job_engine.errors import ConfigurationError, PlatformFaultError
from job_engine.settings import ApiSettings
from tests.unit.api.support import ADMIN_PASSWORD, Running, serving
from tests.unit.client.scripted import Say, Scripted

ADMIN = {"username": "admin", "password": ADMIN_PASSWORD}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that its admin logs in to."""
    directory = tmp_path_factory.mktemp("api")
    with serving(
        ApiSettings(data_dir=directory, port=0, admin_password=SecretStr(ADMIN_PASSWORD))
    ) as running:
        yield running


@pytest.fixture
def api(server: Running) -> Iterator[Api]:
    """A client that is closed after the test."""
    with Api(server.url, credentials=ADMIN, retry_s=0) as client:
        yield client


# --- which API, and who asks it -------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1:8020", "ftp://host", "http://", "", "localhost"])
def test_an_invalid_address_is_an_error_at_once(address: str) -> None:
    with pytest.raises(ConfigurationError, match="like http://"):
        Api(address)


@pytest.mark.parametrize("written", ["{}", "{}/", "{}/api", "{}/api/"])
def test_an_address_may_be_that_of_the_pages(server: Running, written: str) -> None:
    with Api(written.format(server.url), credentials=ADMIN, retry_s=0) as api:
        assert api.submit("noop").refresh().action == "noop"


def test_a_refused_login_is_what_is_told(server: Running) -> None:
    with Api(server.url, credentials={**ADMIN, "password": "wrong"}, retry_s=0) as api:
        with pytest.raises(RefusedError, match="login was refused: invalid credentials") as raised:
            api.submit("noop")
        assert raised.value.status == 403
        api.login_password(**ADMIN)
        job = api.submit("noop").cancel()
        with pytest.raises(RefusedError) as raised:  # logged in: the job's state is why
            api.operate(job.id, "cancel")
        assert "login" not in raised.value.reason


# --- what is asked for ----------------------------------------------------------------


def test_times_are_written_as_the_api_reads_them(api: Api) -> None:
    later = datetime(2100, 1, 31, 14, 30, 0, 1500, timezone(timedelta(hours=2)))
    job = api.submit("noop", not_before=later).refresh()
    assert job.document["not-before"] == "2100-01-31T12:30:00.002Z"
    with pytest.raises(ValueError, match="no time zone"):
        job_document("noop", expiry=later.replace(tzinfo=None))


@pytest.mark.parametrize("payload", [{"a": float("nan")}, {"a": {1}}, {"a": datetime.now(UTC)}])
def test_a_payload_that_is_not_json_is_an_error_of_the_client(payload: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        job_document("noop", payload)


# --- finding jobs ---------------------------------------------------------------------


@pytest.mark.parametrize("orderby", ["created:asc", "created", "created:desc", "name:desc"])
def test_all_jobs_are_found_page_by_page(
    api: Api, monkeypatch: pytest.MonkeyPatch, orderby: str
) -> None:
    monkeypatch.setattr(client_api, "PAGE", 3)
    course = f"course/{orderby.replace(':', '-')}"
    # Those of one request have the same time.
    named = [job_document("noop", name=f"{n}", parent=course) for n in range(7)]
    made = [*api.submit_many(named), *(api.submit("noop", parent=course) for _ in range(2))]
    found = [job.id for job in api.jobs(f"parent='{course}' or name='nobody'", orderby)]
    assert sorted(found) == sorted(job.id for job in made)
    times = [api.job(job).document["created"] for job in found]
    if orderby.startswith("created"):
        assert times == sorted(times, reverse=orderby.endswith("desc"))
    assert not list(api.jobs("parent='course/none'", orderby))


@pytest.mark.parametrize("orderby", ["created:asc", "created:desc"])
def test_found_jobs_may_be_cancelled_or_deleted_while_paging(
    api: Api, monkeypatch: pytest.MonkeyPatch, orderby: str
) -> None:
    monkeypatch.setattr(client_api, "PAGE", 3)
    api.submit_many([job_document("noop", parent="course/over") for _ in range(10)])
    waiting = "parent='course/over' and state='QUEUED'"
    for number, job in enumerate(api.jobs(waiting, orderby)):
        if number % 2:
            api.delete(job.id)
        else:
            job.cancel()
    assert (number, list(api.jobs(waiting))) == (9, [])


# --- files ----------------------------------------------------------------------------


def test_a_submission_is_downloaded(api: Api, tmp_path: Path) -> None:
    (tmp_path / "hw1.zip").write_bytes(b"PK" * 100_000)
    digest = api.upload_blob(str(tmp_path / "hw1.zip"))
    payload = {"submission": {"archive": {"blob": digest}}}
    job = api.submit("unknown", payload)
    for fetch, what in ((api.download_blob, digest), (api.download_submission, job.id)):
        fetch(what, tmp_path / "copy.zip")
        assert (tmp_path / "copy.zip").read_bytes() == b"PK" * 100_000
        (tmp_path / "copy.zip").unlink()
    with pytest.raises(RefusedError, match="no upload that you may read"):
        api.download_submission(api.submit("noop").id, tmp_path / "copy.zip")
    assert not (tmp_path / "copy.zip").exists()


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_a_file_that_cannot_be_read_is_not_the_apis_fault(kind: str, tmp_path: Path) -> None:
    with Api("http://127.0.0.1:1") as api, pytest.raises(OSError, match=kind):
        api.upload_blob(tmp_path if kind == "directory" else tmp_path / "missing")


def test_a_damaged_download_is_deleted(tmp_path: Path) -> None:
    digest = "0" * 64
    with Scripted(Say(200, b"bytes", {"ETag": f'W/"{digest}"'})) as server, Api(server.url) as api:
        for fetch, what in ((api.download_blob, digest), (api.download_submission, "job/x")):
            with pytest.raises(PlatformFaultError, match="damaged"):
                fetch(what, tmp_path / "copy")
            assert not (tmp_path / "copy").exists()
    with Scripted(Say(200, b"bytes")) as server, Api(server.url) as api:
        api.download_submission("job/x", tmp_path / "copy")  # a proxy dropped the tag
    assert (tmp_path / "copy").read_bytes() == b"bytes"
