"""The corpus' surroundings: a network of its own, with a Docker daemon in it, and ears."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from docker import APIClient

from job_engine.errors import JobEngineError
from job_engine.sandbox.docker.daemon import LABEL
from job_engine.sandbox.factory import make_sandbox
from job_engine.settings import GradingSettings, SandboxSettings
from tests.conftest import require
from tests.contract.sandbox import bubblewrap_host
from tests.hostile.corpus.assignments import FLAVOUR
from tests.hostile.corpus.bench import Bench
from tests.hostile.corpus.holes import CREDENTIAL
from tests.hostile.corpus.network import Ears, can_listen, own_network
from tests.integration.grading.conftest import Blobs, Desk
from tests.support.docker_daemon import PrivateDaemon, has_docker
from tests.support.images import base_image, require_docker

BACKENDS = [
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    pytest.param("docker", marks=pytest.mark.docker),
]


@pytest.fixture(scope="package")
def network() -> Iterator[None]:
    """From here on, tests run in a network of their own; so does what they start."""
    require(can_listen(), "needs root and iproute2")
    with own_network():
        yield


@pytest.fixture(scope="package")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="package")
def ears(network: None, directory: Path) -> Iterator[Ears]:
    with Ears([directory / "socket"]) as ears:
        yield ears


@pytest.fixture(scope="package")
def docker_daemon(network: None, directory: Path) -> Iterator[PrivateDaemon]:
    """A daemon in the tests' network, with the base image in it."""
    require_docker()
    require(has_docker(), "needs dockerd")
    image = base_image()
    with PrivateDaemon(directory) as daemon:
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            daemon.ask("load", stdin=saved)
        yield daemon


def docker_leftovers(daemon: APIClient, label: str) -> list[str]:
    """Return the containers and volumes that carry the label."""
    query = {"label": f"{LABEL}={label}"}
    containers = daemon.containers(all=True, filters=query)
    volumes = daemon.volumes(filters=query)["Volumes"] or []
    return [f"container {item['Names']}" for item in containers] + [
        f"volume {item['Name']}" for item in volumes
    ]


@pytest.fixture(scope="package", params=BACKENDS)
def settings(request: pytest.FixtureRequest, directory: Path) -> SandboxSettings:
    """Each backend in turn, in the tests' network; its operator grants `own-root`."""
    request.getfixturevalue("network")
    if request.param == "bubblewrap":
        made = bubblewrap_host.settings()
    else:
        url = request.getfixturevalue("docker_daemon").url
        made = SandboxSettings(sandbox="docker", docker_url=url, default_image=base_image())
    granted = {"allow_profiles": ["own-root"], "kept_roots_dir": directory / "roots"}
    return made.model_copy(update=granted)


@pytest.fixture(scope="package")
def bench(
    request: pytest.FixtureRequest, settings: SandboxSettings, ears: Ears, directory: Path
) -> Iterator[Bench]:
    """The real grading pipeline on a backend."""
    leftovers = bubblewrap_host.leftovers
    if settings.sandbox == "docker":
        client = APIClient(settings.docker_url, version="auto")
        leftovers = partial(docker_leftovers, client)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv(CREDENTIAL, "corpus-credential")
        try:
            sandbox = make_sandbox(settings)
            stack.callback(sandbox.close)
            sandbox.check()
        except (JobEngineError, ImportError) as error:
            require(False, f"{settings.sandbox}: {error}")
        place = directory / f"{settings.sandbox}-{uuid.uuid4().hex[:6]}"
        blobs = place / "blobs"
        blobs.mkdir(parents=True)
        desk = Desk(
            name=sandbox.name,
            sandbox=sandbox,
            policy=settings,
            blobs=Blobs(blobs),
            directory=place,
            settings=GradingSettings(
                bundle_cache_dir=place / "bundles", flavours={"hostile": FLAVOUR}
            ),
            label="corpus",
            leftovers=leftovers,
        )
        yield Bench(desk, ears)
