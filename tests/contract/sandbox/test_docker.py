"""What is Docker's own: images, and the configuration that its containers really have."""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

import pytest

from job_engine.errors import ImageUnavailableError, SandboxError, SandboxRefusedError
from job_engine.sandbox.base import WORKSPACE, Inputs, PhaseStarted, Tree, Verdict
from job_engine.sandbox.docker import DockerSandbox
from job_engine.sandbox.docker.images import holder_archive
from job_engine.settings import SandboxSettings
from tests.conftest import require
from tests.contract.sandbox.docker_host import leftovers
from tests.contract.sandbox.runner import LIMITS, TREE, run, sh, tar
from tests.support.images import base_image, docker, require_docker
from tests.support.loopback import LoopbackServer

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def sandbox() -> Iterator[DockerSandbox]:
    require_docker()
    settings = SandboxSettings(sandbox="docker", default_image=base_image())
    with closing(DockerSandbox(settings)) as sandbox:
        yield sandbox


@pytest.fixture
def label(sandbox: DockerSandbox) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    sandbox.sweep(name)
    assert leftovers(name) == []


@pytest.fixture(scope="module")
def pushy_image() -> str:
    """An image that asks for all that an image can ask for."""
    require_docker()
    text = f"""
        FROM {base_image()}
        RUN mkdir -p /data /mnt/submission && echo image > /mnt/submission/from-the-image
        VOLUME /data
        ENV PATH=/opt/tool/bin:/usr/bin:/bin TOOL_HOME=/opt/tool
        USER 0
        HEALTHCHECK --interval=1s CMD touch /data/healthy
        ENTRYPOINT ["echo", "entry"]
        CMD ["point"]
    """
    tag = "job-engine-test-pushy:latest"
    docker("build", "--quiet", f"--tag={tag}", "-", stdin=text)
    return tag


def test_an_image_widens_nothing(sandbox: DockerSandbox, label: str, pushy_image: str) -> None:
    before = set(docker("volume", "ls", "--quiet").split())
    script = (
        "id -u; stat -f -c %T /data; head -c 2000000 /dev/zero > /data/x; ls -A;"
        " echo $PATH $TOOL_HOME"
    )
    result = run(sandbox, label, sh(script, image=pushy_image))
    uid, kind, *rest = result.stdout.decode().splitlines()
    assert int(uid) >= 64_000
    assert kind == "tmpfs"
    # Nothing of the image's was copied into the tree; its environment is its own business.
    assert rest == ["/opt/tool/bin:/usr/bin:/bin /opt/tool"]
    assert set(docker("volume", "ls", "--quiet").split()) <= before


def test_the_configuration_of_a_running_phase(sandbox: DockerSandbox, label: str) -> None:
    slot = sandbox.prepare(label=label, phases=(sh("sleep 60"),), trees=(TREE,))
    try:
        slot.go(Inputs())
        assert isinstance(next(slot.collect()), PhaseStarted)
        ids = docker("ps", "--quiet", f"--filter=label=job-engine.label={label}").split()
        found = json.loads(docker("inspect", *ids))
        assert len(found) == 2
        for container in found:
            host = container["HostConfig"]
            assert not host["Binds"]
            assert {mount["Type"] for mount in container["Mounts"]} == {"volume"}
            assert host["CapDrop"] == ["ALL"]
            assert not host["CapAdd"]
            assert not host["Privileged"]
            assert "no-new-privileges" in host["SecurityOpt"]
            assert host["ReadonlyRootfs"]
            assert host["IpcMode"] == "private"
            assert host["PidMode"] == ""
            assert host["LogConfig"]["Type"] == "none"
            assert 0 < host["Memory"] == host["MemorySwap"]
            assert host["PidsLimit"] > 0
            assert int(container["Config"]["User"].split(":")[0]) >= 64_000
        [phase] = [item for item in found if item["HostConfig"]["NanoCpus"]]
        [holder] = [item for item in found if item is not phase]
        assert holder["HostConfig"]["NetworkMode"] == "none"
        # Which is the holder's, and of no other slot.
        assert phase["HostConfig"]["NetworkMode"] == f"container:{holder['Id']}"
        assert phase["HostConfig"]["NanoCpus"] == LIMITS.cpus * 10**9
        assert phase["HostConfig"]["Memory"] == LIMITS.memory_bytes
    finally:
        slot.destroy()


def test_slots_do_not_share_a_uid(sandbox: DockerSandbox, label: str) -> None:
    slots = [sandbox.prepare(label=label, phases=(sh("id -u"),), trees=(TREE,)) for _ in range(3)]
    try:
        ids = docker("ps", "--quiet", f"--filter=label=job-engine.label={label}").split()
        users = [item["Config"]["User"] for item in json.loads(docker("inspect", *ids))]
        assert len(set(users)) == 3
    finally:
        for slot in slots:
            slot.destroy()


@pytest.mark.parametrize("order", ["kill", "kill --signal=TERM", "rm --force", "pause"])
def test_a_container_ended_from_outside_is_a_platform_fault(
    sandbox: DockerSandbox, label: str, order: str
) -> None:
    """An operator, or a tool that tidies up; one that kills itself is told apart."""
    limits = replace(LIMITS, wall_time_s=2)
    slot = sandbox.prepare(label=label, phases=(sh("exec sleep 60", limits=limits),), trees=(TREE,))
    try:
        slot.go(Inputs())
        events = slot.collect()
        assert isinstance(next(events), PhaseStarted)
        filters = f"--filter=label=job-engine.label={label}", "--filter=name=-run$"
        docker(*order.split(), docker("ps", "--quiet", *filters))
        with pytest.raises(SandboxError):
            list(events)
    finally:
        slot.destroy()


def test_a_phase_that_kills_itself_has_a_verdict(sandbox: DockerSandbox, label: str) -> None:
    result = run(sandbox, label, sh("kill -9 $$"))
    assert (result.verdict, result.signal) == (Verdict.SIGNAL, 9)


def test_an_image_by_its_digest(sandbox: DockerSandbox, label: str) -> None:
    digest = docker("image", "inspect", "--format={{.Id}}", base_image())
    result = run(sandbox, label, sh("echo here", image=digest))
    assert (result.verdict, result.stdout) == (Verdict.OK, b"here\n")


NOWHERE = ["127.0.0.1:1/x:1", "127.0.0.1:1/x@sha256:" + "0" * 64, "sha256:" + "0" * 64]


@pytest.mark.parametrize("image", NOWHERE)
def test_an_image_that_cannot_be_had(sandbox: DockerSandbox, label: str, image: str) -> None:
    with pytest.raises(ImageUnavailableError, match=r"docker load.*default_image"):
        sandbox.prepare(label=label, phases=(sh("true"),), trees=(TREE,), image=image)


def test_no_image_at_all(label: str) -> None:
    with (
        closing(DockerSandbox(SandboxSettings(sandbox="docker"))) as sandbox,
        pytest.raises(SandboxRefusedError, match="default_image"),
    ):
        sandbox.prepare(label=label, phases=(sh("true"),), trees=(TREE,))


def test_a_program_may_not_start_before_its_tree_is_whole(
    sandbox: DockerSandbox, label: str
) -> None:
    small = Tree(name=WORKSPACE, size_bytes=2**20)
    slot = sandbox.prepare(label=label, phases=(sh("true"),), trees=(small,))
    try:
        with pytest.raises(SandboxError, match=r"workspace cannot be filled.*No space left"):
            slot.go(Inputs(trees={WORKSPACE: tar({"big": bytes(3 * 2**20)})}))
    finally:
        slot.destroy()


def test_a_large_tree_arrives_whole(sandbox: DockerSandbox, label: str) -> None:
    data = bytes(range(256)) * 2**16
    tree = Tree(name=WORKSPACE, size_bytes=64 * 2**20)
    inputs = Inputs(trees={WORKSPACE: tar({"a/b": data, "c": data[:-1]})})
    script = "cat a/b c | sha256sum; stat -c '%s %u' a/b; id -u"
    result = run(sandbox, label, sh(script), trees=(tree,), inputs=inputs)
    expected = hashlib.sha256(data + data[:-1]).hexdigest()
    first, second, uid = result.stdout.decode().splitlines()
    assert first.split()[0] == expected
    assert second == f"{len(data)} {uid}"


class Registry(BaseHTTPRequestHandler):
    """As much of a registry as a pull needs; what it serves is set on its class."""

    parts: ClassVar[dict[str, tuple[str, bytes]]] = {}

    def do_GET(self) -> None:
        kind, data = self.parts.get(self.path, ("application/json", b"{}"))
        known = self.path in self.parts or self.path == "/v2/"
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve_image(archive: bytes) -> str:
    """Put an image of one layer into the registry; returns its digest."""
    layer = gzip.compress(archive)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64")
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(archive)]},
        }
    ).encode()
    docker_type = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": docker_type,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": digest(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": len(layer),
                    "digest": digest(layer),
                }
            ],
        }
    ).encode()
    for blob in (config, layer):
        Registry.parts[f"/v2/tiny/blobs/{digest(blob)}"] = ("application/octet-stream", blob)
    for name in ("1", digest(manifest)):
        Registry.parts[f"/v2/tiny/manifests/{name}"] = (docker_type, manifest)
    return digest(manifest)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_an_absent_image_is_pulled_once_by_name_or_digest(
    sandbox: DockerSandbox, label: str
) -> None:
    busybox = SandboxSettings().docker_busybox
    require(busybox.is_file(), "needs busybox-static")
    manifest = serve_image(holder_archive(busybox.read_bytes()))
    # Loopback registries need no TLS; the daemon is on this host, or this cannot work.
    with LoopbackServer(Registry) as server:
        repository = f"127.0.0.1:{server.server_port}/tiny"
        for image in (f"{repository}:1", f"{repository}@{manifest}"):
            with ThreadPoolExecutor(3) as pool:
                results = pool.map(
                    lambda _, image=image: run(sandbox, label, sh("echo hi", image=image)),
                    range(3),
                )
                assert [result.stdout for result in results] == [b"hi\n"] * 3
            docker("image", "rm", image)
