"""The parts of the Docker backend that need no daemon."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_engine.errors import SandboxError, SandboxRefusedError
from job_engine.sandbox.base import Handover, PhaseSpec, Tree
from job_engine.sandbox.docker import DockerSandbox
from job_engine.sandbox.docker.attach import STDERR, STDOUT, AttachedStream, Demultiplexer
from job_engine.sandbox.docker.forwarder import OPEN, READY, Multiplexer
from job_engine.sandbox.docker.holder import Holder
from job_engine.sandbox.docker.meter import CgroupMeter
from job_engine.sandbox.docker.root_gauge import named_bytes
from job_engine.sandbox.docker.seccomp import profile
from job_engine.sandbox.docker.watch import Output
from job_engine.settings import SandboxSettings

GOOD: dict[str, Any] = {
    "OSType": "linux",
    "Architecture": "x86_64",
    "MemoryLimit": True,
    "SwapLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
    "CpuCfsPeriod": True,
    "SecurityOptions": ["name=seccomp,profile=default"],
    "NCPU": 2,
}


# --- a daemon that says what it is told to ------------------------------------


class UnixServer(HTTPServer):
    """An HTTP server on a Unix socket."""

    address_family = socket.AF_UNIX
    info: dict[str, Any]

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "daemon", 0

    def get_request(self) -> tuple[Any, Any]:
        return self.socket.accept()[0], ("daemon", 0)


class Answers(BaseHTTPRequestHandler):
    """Answers as far as the backend's check goes."""

    server: UnixServer

    def do_GET(self) -> None:
        found = self.path.endswith(("/version", "/info"))
        body = {"ApiVersion": "1.41", **self.server.info} if found else {"message": "no such"}
        data = json.dumps(body).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def daemon(directory: Path, info: dict[str, Any]) -> Iterator[DockerSandbox]:
    """A backend whose daemon describes itself with `info`."""
    path = directory / "docker.sock"
    with UnixServer(str(path), Answers) as server:  # type: ignore[arg-type]
        server.info = info
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings = SandboxSettings(
            docker_url=f"unix://{path}", docker_busybox=directory / "none", docker_timeout_s=5
        )
        try:
            with closing(DockerSandbox(settings)) as sandbox:
                yield sandbox
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MemoryLimit": False}, "limit memory"),
        ({"PidsLimit": False}, "limit processes"),
        ({"CpuCfsQuota": False}, "limit CPU"),
        ({"OSType": "windows"}, "Linux"),
        ({"SecurityOptions": ["name=apparmor"]}, "seccomp"),
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=userns"]}, "userns"),
        ({}, "docker_holder_image"),
    ],
)
def test_a_daemon_that_cannot_limit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with (
        daemon(tmp_path, GOOD | changes) as sandbox,
        pytest.raises(SandboxRefusedError, match=message),
    ):
        sandbox.check()


def test_no_daemon_is_a_broken_sandbox(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nobody.sock"
    with (
        closing(DockerSandbox(SandboxSettings(docker_url=url))) as sandbox,
        pytest.raises(SandboxError, match=r"nobody\.sock: .*JOB_ENGINE_DOCKER_URL"),
    ):
        sandbox.check()


def test_a_daemon_that_hangs_is_a_broken_sandbox(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    settings = SandboxSettings(docker_url=f"unix://{path}", docker_timeout_s=1)
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(path))
        server.listen()
        with (
            closing(DockerSandbox(settings)) as sandbox,
            pytest.raises(SandboxError, match="timed out"),
        ):
            sandbox.prepare(
                label="x", phases=(PhaseSpec(name="p", command=("true",)),), trees=(Tree(name="t"),)
            )


# --- streams ------------------------------------------------------------------


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)), max_size=10),
    st.integers(1, 50),
)
def test_frames_survive_any_cut(parts: list[tuple[int, bytes]], step: int) -> None:
    wire = b"".join(frame(stream, data) for stream, data in parts)
    demultiplexer = Demultiplexer()
    seen = {STDOUT: b"", STDERR: b""}
    for start in range(0, len(wire), step):
        for stream, data in demultiplexer.feed(wire[start : start + step]):
            seen[stream] += data
    for stream in seen:
        assert seen[stream] == b"".join(data for of, data in parts if of == stream)


def test_a_stream_out_of_step_is_noticed() -> None:
    with pytest.raises(SandboxError, match="out of step"):
        Demultiplexer().feed(b"not a frame at all")


def test_output_keeps_the_first_bytes_of_both_streams_together() -> None:
    output = Output(5)
    output.add(STDOUT, b"abc")
    output.add(STDERR, b"de")
    before = output.exceeded
    output.add(STDOUT, b"f")
    assert (before, output.exceeded) == (False, True)
    assert (bytes(output.stdout), bytes(output.stderr)) == (b"abc", b"de")


# --- the holder's answers -----------------------------------------------------


@contextmanager
def holder() -> Iterator[tuple[Holder, socket.socket]]:
    """A holder, and the other end of its stream."""
    near, far = socket.socketpair()
    with near, far:
        yield Holder(AttachedStream(near), timeout_s=5), far


def answer(far: socket.socket, *answers: bytes) -> bytes:
    """Read one request line, and answer with its token after each answer; return the request."""
    with far.makefile("rb") as lines:
        request = lines.readline()
        # A path that belongs to the request before may have come only now.
        while request and len(request.split()) < 2:
            request = lines.readline()
    token = request.split()[1]
    for data in answers:
        far.sendall(frame(STDOUT, data + token + b"\n"))
    return request


def in_background(function: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("said", "full", "cut"),
    [
        (b"10 5 10 5\n", False, False),
        (b"10 0 10 5\n", True, False),
        (b"10 5 10 0\n/", True, True),
    ],
)
def test_space(said: bytes, full: bool, cut: bool) -> None:
    with holder() as (near, far):
        thread = in_background(answer, far, said)
        space = near.space("workspace", 100)
        thread.join()
    assert (space.full, space.file_at_limit) == (full, cut)


def test_a_listing_with_hostile_names_is_read_exactly() -> None:
    # The second name holds a line that looks like one about another file, and the third
    # is one that the holder could tell nothing of.
    names = [b"./a", b"./b\n81a4 9 ./a", b"./too-long", b"./link"]
    listing = b"".join(name + b"\0" for name in names) + b"directory whole\n"
    facts = b"81a4 3 ./a\n81a4 2 ./b\n81a4 9 ./a\na1ff 1 ./link\n"

    def serve(far: socket.socket) -> None:
        answer(far, listing, facts)
        answer(far, b"one2\n")

    with holder() as (near, far):
        thread = in_background(serve, far)
        files, left_out = near.take(Handover(tree="t", path="out"))
        thread.join()
    assert files == {"t/out/a": b"one", "t/out/b\n81a4 9 ./a": b"2\n"}
    assert left_out == ("t/out/link", "t/out/too-long")


def test_a_holder_that_is_gone_is_a_broken_slot() -> None:
    with holder() as (near, far):
        far.close()
        with pytest.raises(SandboxError, match="holder"):
            near.space("workspace", 100)


# --- the rest -----------------------------------------------------------------


def test_cgroups_of_both_versions_are_read(tmp_path: Path) -> None:
    files = {
        "v1/cpuacct/docker/x/cpuacct.usage": "1500000000\n",
        "v1/memory/docker/x/memory.max_usage_in_bytes": "4096\n",
        "v1/memory/docker/x/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        "v1/pids/docker/x/pids.events": "max 3\n",
        "v2/docker/x/cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
        "v2/docker/x/memory.peak": "4096\n",
        "v1/memory/docker/x/memory.limit_in_bytes": "9000000\n",
        "v2/docker/x/memory.events": "low 0\nmax 0\noom 9\noom_kill 2\n",
        "v2/docker/x/pids.events": "max 3\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for version in (1, 2):
        meter = CgroupMeter("docker/x", unified=version == 2, root=tmp_path / f"v{version}")
        usage = meter.sample()
        assert usage is not None
        assert (usage.cpu_time_s, usage.peak_memory_bytes) == (1.5, 4096)
        assert (usage.oom_kills, usage.refused_forks, usage.starved) == (2, 3, True)
    (tmp_path / "v1/memory/docker/x/memory.memsw.max_usage_in_bytes").write_text("8999000\n")
    (tmp_path / "v1/memory/docker/x/memory.memsw.limit_in_bytes").write_text("9000000\n")
    (tmp_path / "v2/docker/x/memory.events").write_text("max 5\noom_kill 2\n")
    for version in (1, 2):
        meter = CgroupMeter("docker/x", unified=version == 2, root=tmp_path / f"v{version}")
        usage = meter.sample()
        assert usage is not None
        assert not usage.starved
    assert CgroupMeter("docker/y", unified=True, root=tmp_path / "v2").sample() is None


def test_connections_cross_the_forwarder_whole() -> None:
    opened: list[int] = []
    far_side, server = socket.socketpair()
    client, near_side = socket.socketpair()

    def handle(number: int, kind: int) -> None:
        if kind == OPEN:
            opened.append(number)
            assert outside.add(number, far_side)

    def outward(data: bytes) -> None:
        outside.feed(data)

    inside = Multiplexer(outward)
    outside = Multiplexer(inside.feed, handle)
    inside.send(0, READY)
    inside.send(7, OPEN)
    assert inside.add(7, near_side)
    with client, server:
        for sock in (client, server):
            sock.settimeout(5)
        client.sendall(b"ping")
        client.shutdown(socket.SHUT_WR)
        assert read_all(server) == b"ping"
        server.sendall(b"pong" * 1000)
        server.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"pong" * 1000
    assert opened == [7]


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while part := sock.recv(65_536):
        data += part
    return data


def test_the_filter_lets_no_new_namespace_or_stray_family_through() -> None:
    rules = json.loads(profile())["syscalls"]
    refused = [rule for rule in rules if rule["action"] != "SCMP_ACT_ALLOW"]
    assert {name for rule in refused for name in rule["names"]} == {
        *("clone3", "io_setup", "mbind", "set_mempolicy", "get_mempolicy"),
        *("set_mempolicy_home_node", "cachestat", "setrlimit", "prlimit64", "socket"),
        *("setsockopt", "sync", "syncfs", "fsync", "fdatasync", "sync_file_range"),
        *("sync_file_range2", "msync", "fcntl", "fadvise64"),
        *("setxattr", "lsetxattr", "fsetxattr", "setxattrat"),
    }
    rules = [rule for rule in rules if rule not in refused]
    bare = {name for rule in rules if "args" not in rule for name in rule["names"]}
    assert not bare & {
        "clone",
        "socket",
        "setsockopt",
        "fcntl",
        "ioctl",
        "prctl",
        "seccomp",
        "unshare",
        "mount",
        "bpf",
        "fsync",
        "msync",
        "io_uring_setup",
        "keyctl",
    }
    assert {"execve", "read", "write", "futex", "ptrace"} <= bare
    sockets = [[t["value"] for t in r["args"]] for r in rules if "socket" in r["names"]]
    assert sockets == [[1], [2, 0], [2, 6], [2, 17], [10, 0], [10, 6], [10, 17]]


def test_files_deeper_than_a_path_can_name_are_measured(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(30):
            os.mkdir("d" * 200, dir_fd=here)
            below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        file = os.open("deep", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=here)
        os.write(file, bytes(2**20))
        os.close(file)
    finally:
        os.close(here)
    try:
        assert 2**20 <= named_bytes(str(tmp_path)) < 2**21
    finally:
        # Deeper than pytest itself could remove it.
        subprocess.run(["rm", "-r", tmp_path / ("d" * 200)], check=True)
    with pytest.raises(SandboxError):
        named_bytes(str(tmp_path / "gone"))
