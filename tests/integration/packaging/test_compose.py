"""compose.yaml, read as data: it cannot be started where no registry is reachable."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from job_engine.settings import ApiSettings, DistributorSettings, ExecutorSettings, GradingSettings
from tests.support.images import ROOT

EXECUTORS = ("executor-1", "executor-2")
SETTINGS: dict[str, tuple[type[BaseModel], ...]] = {
    "api": (ApiSettings,),
    "distributor": (DistributorSettings,),
    "executor": (ExecutorSettings, GradingSettings),
}
SOCKET = "/var/run/docker.sock:/var/run/docker.sock"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services, with anchors and merges resolved."""
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    found: dict[str, Any] = document["services"]
    return found


def test_the_services(services: dict[str, Any]) -> None:
    assert set(services) == {"zookeeper", "api", "distributor", *EXECUTORS}
    assert services["zookeeper"]["image"] == "zookeeper:3.8"
    assert services["api"]["command"] == ["job-engine", "api"]
    assert services["distributor"]["command"] == ["job-distributor"]
    assert {tuple(services[name]["command"]) for name in EXECUTORS} == {("job-executor",)}


def test_executors_have_time_to_drain(services: dict[str, Any]) -> None:
    drain_s = ExecutorSettings.model_fields["drain_s"].default
    for name in EXECUTORS:
        grace = services[name]["stop_grace_period"]
        assert grace.endswith("s")
        assert int(grace[:-1]) > drain_s


def test_services_are_not_killed_within_their_own_grace(services: dict[str, Any]) -> None:
    for name in ("api", "distributor"):
        grace = services[name]["stop_grace_period"]
        assert int(grace.removesuffix("s")) > 10  # docs/operator.md, "Stopping"


def test_only_executors_have_the_socket(services: dict[str, Any]) -> None:
    having = {name for name, service in services.items() if SOCKET in service["volumes"]}
    assert having == set(EXECUTORS)
    for name in EXECUTORS:
        assert services[name]["group_add"][0].startswith("${DOCKER_GID:?")


def test_executors_keep_their_names(services: dict[str, Any]) -> None:
    assert {services[name]["hostname"] for name in EXECUTORS} == set(EXECUTORS)


def test_credentials_travel_by_file(services: dict[str, Any]) -> None:
    place = services["api"]["environment"]["JOB_ENGINE_CREDENTIALS_DIR"]
    assert f"credentials:{place}" in services["api"]["volumes"]
    for name in ("distributor", *EXECUTORS):
        kind = name.partition("-")[0]
        environment = services[name]["environment"]
        assert environment["JOB_ENGINE_CREDENTIALS_FILE"] == f"{place}/{kind}.json"
        assert f"credentials:{place}:ro" in services[name]["volumes"]


def test_every_variable_is_a_setting(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name == "zookeeper":
            continue
        known = set().union(*(cls.model_fields for cls in SETTINGS[name.partition("-")[0]]))
        given = {key.removeprefix("JOB_ENGINE_").lower() for key in service["environment"]}
        assert given <= known, (name, given - known)


def test_everything_is_confined(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name == "zookeeper":
            continue
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "privileged" not in service, name


def test_nothing_but_loopback_is_published(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:${JOB_ENGINE_PORT:-8020}:8020"]


def test_compose_reads_it() -> None:
    command = ["docker", "compose"]
    if shutil.which("docker") is None or subprocess.run([*command, "version"]).returncode:
        command = ["docker-compose"]
        if shutil.which(command[0]) is None:
            pytest.skip("no docker compose here: the tests above read the file as data")
    done = subprocess.run(
        [*command, "--file", str(ROOT / "compose.yaml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        env={"DOCKER_GID": "999", "PATH": "/usr/local/bin:/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr


def test_postgres_is_for_the_api_alone(services: dict[str, Any]) -> None:
    document = yaml.safe_load((ROOT / "compose.postgres.yaml").read_text())
    assert set(document["services"]) == {"postgres", "api"}
    added = document["services"]["api"]["environment"]
    given = {key.removeprefix("JOB_ENGINE_").lower() for key in added if key != "PGPASSWORD"}
    assert given <= set(ApiSettings.model_fields)
    assert document["services"]["api"]["build"]["args"] == {"EXTRAS": "postgres"}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "postgres" in extras["optional-dependencies"]
