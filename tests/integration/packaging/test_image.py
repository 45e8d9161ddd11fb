"""The image: what is in it, and that all three services run from it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
import yaml

from tests.support.engine import Engine, eventually
from tests.support.images import ROOT, base_image, docker
from tests.support.loopback import LoopbackServer

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

SOCKET = Path("/var/run/docker.sock")


def run(image: str, *words: str) -> str:
    """Run a command in the image, without network, and return what it prints."""
    return docker("run", "--rm", "--network=none", image, *words)


@contextmanager
def container(image: str, command: tuple[str, ...], *options: str) -> Iterator[str]:
    """A running container of the image, removed afterwards."""
    name = f"job-engine-test-{uuid.uuid4().hex[:8]}"
    docker("run", "--detach", f"--name={name}", *options, image, *command)
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def logs(name: str) -> str:
    """What a container wrote, both streams."""
    done = subprocess.run(["docker", "logs", name], stdout=PIPE, stderr=STDOUT, text=True)
    return done.stdout


def executor_options() -> tuple[str, ...]:
    """What compose.yaml gives an executor, over loopback."""
    return (
        "--network=host",
        f"--volume={SOCKET}:{SOCKET}",
        f"--group-add={os.stat(SOCKET).st_gid}",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--read-only",
        "--tmpfs=/tmp",
        "--volume=/var/lib/job-engine/cache",
    )


@pytest.mark.parametrize("command", ["job-engine", "job-distributor", "job-executor"])
def test_every_service_is_on_the_path(engine_image: str, command: str) -> None:
    assert command in run(engine_image, command, "--help")


def test_nobody_special_runs_it(engine_image: str) -> None:
    script = "id -u; id -g; touch /opt/job-engine/x /usr/x 2>/dev/null || echo refused"
    assert run(engine_image, "sh", "-c", script).split() == ["10001", "10001", "refused"]


def test_nothing_else_got_in(engine_image: str) -> None:
    script = "find / -xdev -name secret.env 2>/dev/null; ls -d /src /wheels 2>/dev/null; echo none"
    assert run(engine_image, "sh", "-c", script) == "none"


def test_stops_on_sigterm(engine_image: str) -> None:
    config = json.loads(docker("image", "inspect", engine_image))[0]["Config"]
    assert (config["StopSignal"], config["User"]) == ("SIGTERM", "10001:10001")


def test_the_api_serves_from_it_and_its_health_check_tells(engine_image: str) -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["api"]
    check = service["healthcheck"]["test"][1:]
    options = ("--network=none", "--read-only", "--tmpfs=/tmp", "--init")
    volumes = ("--volume=/var/lib/job-engine/data", "--volume=/var/lib/job-engine/credentials")
    with container(engine_image, tuple(service["command"]), *options, *volumes) as name:
        # The health check waits for nothing: it is asked until it says yes.
        eventually(lambda: healthy(name, check), what="the API is healthy")
        modes = docker(
            "exec", name, "sh", "-c", "cd credentials && stat -c '%a %u %n' *.json"
        ).splitlines()
        assert modes == ["600 10001 distributor.json", "600 10001 executor.json"]
        docker("stop", "--time=20", name)
        # uvicorn finishes, and then raises the signal again.
        assert docker("inspect", "--format={{.State.ExitCode}}", name) in ("0", "143")


def healthy(name: str, check: list[str]) -> bool:
    """Whether the health check of compose.yaml says yes in a container."""
    try:
        docker("exec", name, *check)
    except AssertionError:
        return False
    return True


@pytest.mark.zookeeper
def test_an_executor_grades_from_it(engine_image: str, tmp_path: Path, zk_hosts: str) -> None:
    label = f"test-{uuid.uuid4().hex[:8]}"
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api()
        engine.start_distributor()
        credentials = (tmp_path / "credentials" / "executor.json").read_bytes()
        options = (
            *executor_options(),
            f"--env=JOB_ENGINE_API_URL={engine.url}",
            f"--env=JOB_ENGINE_ZK_HOSTS={zk_hosts}",
            f"--env=JOB_ENGINE_NAME={label}",
            "--env=JOB_ENGINE_SANDBOX=docker",
            f"--env=JOB_ENGINE_DEFAULT_IMAGE={base_image()}",
            "--env=JOB_ENGINE_CREDENTIALS_FILE=/tmp/executor.json",
            f"--env=CREDENTIALS={credentials.decode()}",
        )
        # In compose.yaml a volume brings the file; here it must not be one of this host's.
        start = 'umask 077; printf %s "$CREDENTIALS" >/tmp/executor.json; exec job-executor'
        with container(engine_image, ("sh", "-c", start), *options) as name:
            api = engine.admin()
            job = engine.submit(
                api, "run_command", {"command": "echo x | gcc -xc -E - >/dev/null && id -u"}
            )
            eventually(lambda: api.get(job).data["state"] in ("SUCCESS", "FAILED"), 90)
            document = api.get(job).data
            api.close()
            assert document["state"] == "SUCCESS", (document, logs(name))
            assert int(json.loads(document["output"])["stdout"]) >= 64_000
            docker("stop", "--time=150", name)
            assert docker("inspect", "--format={{.State.ExitCode}}", name) == "0"
    left = docker("ps", "--all", "--quiet", f"--filter=label=job-engine.label={label}")
    left += docker("volume", "ls", "--quiet", f"--filter=label=job-engine.label={label}")
    assert left == ""


# Runs in the image, as an executor would: one phase that reaches a server, through the
# forwarder, and is refused another; and two that run out of memory and of processes.
REACH = """
import sys
from job_engine.sandbox.base import Inputs, Limits, PhaseResult, PhaseSpec, Reach
from job_engine.sandbox.docker import DockerSandbox
from job_engine.settings import SandboxSettings

image, label, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
sandbox = DockerSandbox(SandboxSettings(
    sandbox="docker", default_image=image, allow_private_hosts=[f"127.0.0.1:{port}"]
))
program = '''
import urllib.request, urllib.error
def fetch(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read().decode()
    except urllib.error.HTTPError as error:
        return error.code
print(fetch(%d), fetch(%d), len(fetch(%d)))
''' % (port, port + 1, port)
hog = "x = bytearray(10**9)"
bomb = "import os\\nwhile True: os.fork()"
slot = sandbox.prepare(label=label, trees=(), phases=(
    PhaseSpec(
        name="reach",
        command=("python3", "-c", program),
        reach=(Reach(host="127.0.0.1", port=port),),
        env={"no_proxy": "", "NO_PROXY": ""},
    ),
    PhaseSpec(name="hog", command=("python3", "-c", hog), limits=Limits(memory_bytes=64 * 2**20),
              always=True),
    PhaseSpec(name="bomb", command=("python3", "-c", bomb), always=True,
              limits=Limits(processes=16, wall_time_s=3)),
))
try:
    slot.go(Inputs())
    for result in slot.collect():
        if isinstance(result, PhaseResult):
            print(result.phase, result.verdict, result.stdout.decode(), result.stderr[-500:])
finally:
    slot.destroy()
sandbox.close()
"""


class Page(BaseHTTPRequestHandler):
    """Answers with more than fits one frame of the forwarder's."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"page" * 50_000)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("sees_cgroups", [False, True])
def test_phases_run_as_confined_from_a_container(engine_image: str, sees_cgroups: bool) -> None:
    """The executor's container may not enter the slot's network, so a forwarder has to.

    What it cannot see of the phases' cgroups is missing from verdicts, never from limits.
    """
    sight = ("--pid=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:ro") if sees_cgroups else ()
    label = f"test-{uuid.uuid4().hex[:8]}"
    with LoopbackServer(Page) as server:
        output = docker(
            "run", "--rm", *executor_options(), *sight, engine_image,
            "python3", "-c", REACH, base_image(), label, str(server.server_port),
        )  # fmt: skip
    assert f"reach ok {'page' * 50_000} 403 200000\n" in output, output[:3000]
    assert "hog memory" in output
    assert ("bomb processes" if sees_cgroups else "bomb exit") in output
    assert docker("ps", "--all", "--quiet", f"--filter=label=job-engine.label={label}") == ""


def test_the_daemons_socket_is_where_compose_mounts_it() -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(SOCKET))
