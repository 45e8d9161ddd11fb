"""The unmodified `nuvla-api` client against a real server, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from nuvla.api import Api
from nuvla.api.api import NuvlaError
from pydantic import SecretStr

from job_engine.settings import ApiSettings
from tests.databases import BACKENDS, database
from tests.unit.api.support import Running, serving

PASSWORD = "correct horse"


@pytest.fixture(scope="module", params=BACKENDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A server that trusts nobody's header, on each kind of database."""
    directory = tmp_path_factory.mktemp("compat")
    with database(request, request.param, directory) as url:
        settings = ApiSettings(
            data_dir=directory, database_url=url, port=0, admin_password=SecretStr(PASSWORD)
        )
        with serving(settings) as running:
            yield running


@pytest.fixture
def api(server: Running) -> Iterator[Api]:
    """A client that logged in with a password."""
    client = Api(server.url, insecure=True, persist_cookie=False)
    assert client.login_password("admin", PASSWORD).status_code == 201
    yield client
    client.session.close()


def test_a_jobs_life(api: Api) -> None:
    added = api.add("job", {"action": "noop", "priority": 5, "target-resource": {"href": "job"}})
    assert added.data["status"] == 201
    job = added.data["resource-id"]
    found = api.get(job)
    assert found.id == job
    assert found.resource_type == "job"
    assert {"edit", "delete", "cancel"} <= found.operations.keys()
    assert api.get(job, select=["state"]).data == {"id": job, "state": "QUEUED"}
    edited = api.edit(job, {"name": "a name", "description": "x"})
    assert edited.data["name"] == "a name"
    assert "description" not in api.edit(job, {}, select="description").data
    assert api.operation(found, "cancel").data["state"] == "CANCELED"
    with pytest.raises(NuvlaError) as conflict:
        api.edit(job, {"name": "y"})
    assert conflict.value.reason == "edit is not allowed in final state"
    assert conflict.value.response.status_code == 409
    assert api.delete(job).data["status"] == 200
    with pytest.raises(NuvlaError) as missing:
        api.get(job)
    assert missing.value.response.status_code == 404


def test_searching(api: Api) -> None:
    ids = [
        api.add("job", {"action": "found", "name": str(n)}).data["resource-id"] for n in range(4)
    ]
    states = ["QUEUED", "RUNNING"]
    found = api.search(
        "job",
        filter=f"action='found' and state={states}",
        select=["id", "name"],
        orderby="name:desc",
        first=1,
        last=2,
    )
    assert found.count == 4
    assert [resource.id for resource in found.resources] == [ids[3], ids[2]]
    assert sorted(found.resources[0].data) == ["id", "name"]
    assert api.search("job", filter="action='found'", last=0).resources == []
    assert api.search("job", filter=None).count >= 4
    with pytest.raises(NuvlaError, match="Invalid CIMI filter"):
        api.search("job", filter="state=QUEUED")
    with pytest.raises(NuvlaError, match="Invalid CIMI filter"):
        api.search("job", filter="")
    summary = api.delete_bulk("job", "action='found'").data
    assert (summary["deleted"], summary["timed_out"]) == (4, False)


def test_packed_bodies(server: Running) -> None:
    api = Api(server.url, insecure=True, persist_cookie=False, compress=True)
    api.login_password("admin", PASSWORD)
    added = api.add("job", {"action": "packed", "description": "x" * 10_000})
    assert len(api.get(added.data["resource-id"]).data["description"]) == 10_000
    api.session.close()


def test_the_entry_point(api: Api) -> None:
    assert api.cloud_entry_point.base_uri == f"{api.endpoint}/api/"
    assert api.cloud_entry_point.collections["job"] == "job"


def test_keys_and_logging_in_again(api: Api, server: Running) -> None:
    template = {"href": "credential-template/generate-api-key", "ttl": 3600}
    made = api.add("credential", {"name": "key", "template": template}).data
    key = {"key": made["resource-id"], "secret": made["secret-key"]}
    other = Api(
        server.url, insecure=True, persist_cookie=False, reauthenticate=True, login_creds=key
    )
    assert not other.is_authenticated()
    job = other.add("job", {"action": "noop"}).data["resource-id"]  # a 403, a login, and again
    assert other.get(job).id == job
    assert other.is_authenticated()
    other.logout()
    assert not other.is_authenticated()
    other.session.close()


def test_secure_clients_on_plain_http(server: Running) -> None:
    """No `Secure` on http: the cookie comes back also where `insecure` was not asked for."""
    api = Api(server.url, persist_cookie=False)
    api.login_password("admin", PASSWORD)
    assert api.is_authenticated()
    api.session.close()


def test_nobodys_header_is_believed(server: Running) -> None:
    header = "internal group/nuvla-admin group/nuvla-admin group/nuvla-user"
    api = Api(server.url, insecure=True, persist_cookie=False, authn_header=header)
    with pytest.raises(NuvlaError, match="credentials required"):
        api.search("job")
    api.session.close()
