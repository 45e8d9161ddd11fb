"""A ZooKeeper that others use too: digest authentication, ACLs on every node, TLS."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.recipe.queue import LockingQueue
from kazoo.security import make_digest_acl
from pydantic import SecretStr

from job_engine.cli.up.command import prepare_zookeeper
from job_engine.errors import JobEngineError
from job_engine.queue.local import DEBIAN_JARS, LocalZooKeeper
from job_engine.settings import ZooKeeperAccess
from tests.conftest import require
from tests.support.engine import Engine, eventually
from tests.support.trace import ACTIONS_DIR

PASSWORD = "open:sesame"
AUTH = f"engine:{PASSWORD}"
OURS = make_digest_acl("engine", PASSWORD, all=True)
SCRIPT = Path(sys.executable).with_name("job-engine")


@contextmanager
def connected(hosts: str, **more: object) -> Iterator[KazooClient]:
    client = KazooClient(hosts, **more)
    client.start()
    try:
        yield client
    finally:
        client.stop()
        client.close()


@pytest.fixture
def protected(zookeeper_server: str) -> Iterator[str]:
    """A chroot of the test's own, made the way `up` makes it."""
    hosts = f"{zookeeper_server}/protected-{uuid.uuid4().hex}"
    prepare_zookeeper(hosts, ZooKeeperAccess(zk_auth=SecretStr(AUTH)))
    yield hosts
    with connected(zookeeper_server, auth_data=[("digest", AUTH)]) as client:
        client.delete(f"/{hosts.partition('/')[2]}", recursive=True)


def tree(client: KazooClient, path: str = "/") -> Iterator[str]:
    yield path
    for name in client.get_children(path):
        yield from tree(client, f"{path.rstrip('/')}/{name}")


def command(engine: Engine, *words: str, auth: str | None = AUTH) -> str:
    environment = {
        **os.environ,
        "JOB_ENGINE_API_URL": engine.url,
        "JOB_ENGINE_ZK_HOSTS": engine.zk_hosts,
        **({"JOB_ENGINE_ZK_AUTH": auth} if auth else {}),
    }
    done = subprocess.run(
        [SCRIPT, *words], env=environment, capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


def refuses(what: Callable[..., object], *arguments: object) -> bool:
    try:
        what(*arguments)
    except NoAuthError:
        return True
    return False


def test_every_node_is_ours_alone(tmp_path: Path, protected: str) -> None:
    with Engine(tmp_path, protected) as engine:
        engine.start_api()
        for name in ("d1", "d2"):
            engine.start_distributor(name, zk_auth=AUTH)
        for name in ("e1", "e2", "e3"):
            engine.start_executor(name, threads=1, actions_dir=ACTIONS_DIR, zk_auth=AUTH)
        api = engine.admin()
        trace = {"file": str(tmp_path / "trace")}
        for _ in range(10):
            engine.submit(api, "trace", trace)
        engine.wait_final(api, 10)
        # One that runs while the others are idle, and one that is asked to go while it runs.
        engine.submit(api, "trace", {**trace, "seconds": 60})
        engine.submit(api, "trace", {**trace, "seconds": 60})
        with connected(protected, auth_data=[("digest", AUTH)]) as ours:
            eventually(lambda: len(ours.get_children("/job/taken")) == 2)
            taken = ours.get_children("/job/taken")[0]
            runner = ours.get(f"/job/taken/{taken}")[0].decode()
            assert "e1" in command(engine, "executor", "list")
            assert "executors alive: 3" in command(engine, "doctor")
            assert "drains" in command(engine, "executor", "drain", runner)
            eventually(lambda: ours.exists(f"/job-engine/drain/{runner}"))
            paths = list(tree(ours))
            assert {p.split("/")[1] for p in paths} == {
                "",
                "job",
                "job-engine",
                "executors",
                "election",
            }
            assert [p for p in paths if ours.get_acls(p)[0] != [OURS]] == []
        with connected(protected) as stranger:
            for path in paths:
                assert refuses(stranger.get, path), path
                assert refuses(stranger.get_children, path), path
                assert refuses(stranger.set, path, b""), path
                assert refuses(stranger.create, f"{path.rstrip('/')}/x"), path
                assert path == "/" or refuses(stranger.delete, path), path
        assert "JOB_ENGINE_ZK_AUTH" in command(engine, "executor", "list", auth=None)
        assert "JOB_ENGINE_ZK_AUTH" in command(engine, "doctor", auth="engine:wrong")
        api.close()
        for name in engine.processes:
            assert PASSWORD not in engine.log(name)
            commandline = Path(f"/proc/{engine.processes[name].pid}/cmdline").read_text()
            assert PASSWORD not in commandline


def test_kazoos_own_queue_shares_it(tmp_path: Path, protected: str) -> None:
    with Engine(tmp_path, protected) as engine:
        engine.start_api()
        engine.start_distributor(zk_auth=AUTH)
        engine.start_executor(threads=1, actions_dir=ACTIONS_DIR, zk_auth=AUTH)
        api = engine.admin()
        trace = {"file": str(tmp_path / "trace"), "seconds": 60}
        for _ in range(2):
            engine.submit(api, "trace", trace)
        with connected(protected, auth_data=[("digest", AUTH)], default_acl=[OURS]) as ours:
            eventually(lambda: ours.exists("/job/taken") and ours.get_children("/job/taken"))
            theirs = LockingQueue(ours, "/job")
            assert theirs.get(timeout=10).startswith(b"job/")
            assert theirs.consume()
            theirs.put(b"job/elsewhere")
        api.close()


def test_a_wrong_password_says_what_to_do(tmp_path: Path, protected: str) -> None:
    with Engine(tmp_path, protected) as engine:
        engine.start_api()
        engine.start_distributor("right", zk_auth=AUTH)
        eventually(lambda: "incarnation.drawn" in engine.log("right"))
        engine.start_distributor("d", zk_auth="engine:wrong")
        engine.start_executor("e", zk_auth="engine:wrong")
        for name, events in (
            ("d", ("election.refused", "fleet.refused")),
            ("e", ("queue.refused",)),
        ):
            for event in events:
                eventually(partial(_logged, engine, name, event))
            assert "JOB_ENGINE_ZK_AUTH" in engine.log(name)
            assert engine.log(name).count("refused") < 10
            assert "Traceback" not in engine.log(name)
            assert engine.stop(name) == 0


def _logged(engine: Engine, name: str, event: str) -> bool:
    return event in engine.log(name)


@pytest.mark.parametrize("auth", ["engine", ":sesame", "engine:"])
def test_half_a_password_is_refused_at_the_start(tmp_path: Path, auth: str) -> None:
    with Engine(tmp_path, "127.0.0.1:1") as engine:
        process = engine.spawn("distributor", "distributor", zk_auth=auth)
        assert process.wait(20) == 2
        assert "user:password" in engine.log("distributor")


# --- TLS ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that is its own authority, for both sides."""
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    both = (directory / "key.pem").read_text() + (directory / "cert.pem").read_text()
    (directory / "both.pem").write_text(both)
    return directory


@pytest.fixture(scope="module")
def tls_port(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[int]:
    """A ZooKeeper that speaks TLS with those who have a certificate (and plainly, to be asked)."""
    netty = sorted(jar for jar in DEBIAN_JARS.glob("netty-*.jar") if "4." not in jar.name)
    require(bool(netty), "needs netty (libnetty-java)")
    options = {
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "client.portUnification": "true",
        "ssl.keyStore.location": certificates / "both.pem",
        "ssl.trustStore.location": certificates / "cert.pem",
        "ssl.clientAuth": "need",
        "ssl.hostnameVerification": "false",
        "authProvider.x509": "org.apache.zookeeper.server.auth.X509AuthenticationProvider",
    }
    server = LocalZooKeeper(
        tmp_path_factory.mktemp("zookeeper"),
        sync=False,
        jvm_options=[
            # All of it in one place: parts of netty do not see each other across class loaders.
            f"-Xbootclasspath/a:{':'.join(map(str, netty))}",
            *(f"-Dzookeeper.{name}={value}" for name, value in options.items()),
        ],
    )
    try:
        server.start()
    except JobEngineError as error:
        require(False, error.message)
    yield server.port
    server.stop()


def test_the_engine_over_tls(tmp_path: Path, tls_port: int, certificates: Path) -> None:
    tls = {
        "zk_tls": True,
        "zk_tls_ca": certificates / "cert.pem",
        "zk_tls_cert": certificates / "cert.pem",
        "zk_tls_key": certificates / "key.pem",
    }
    with Engine(tmp_path, f"localhost:{tls_port}") as engine:
        engine.start_api()
        engine.start_distributor(zk_auth=AUTH, **tls)
        engine.start_executor(actions_dir=ACTIONS_DIR, zk_auth=AUTH, **tls)
        api = engine.admin()
        job = engine.submit(api, "trace", {"file": str(tmp_path / "trace")})
        engine.wait_final(api, 1)
        assert api.get(job).data["state"] == "SUCCESS"
        api.close()
        for name in ("distributor", "executor"):
            assert engine.stop(name) == 0


@pytest.mark.parametrize(
    ("host", "given"), [("localhost", ()), ("127.0.0.1", ("ca", "cert", "key"))]
)
def test_whom_nobody_vouches_for_is_not_believed(
    tmp_path: Path, tls_port: int, certificates: Path, host: str, given: tuple[str, ...]
) -> None:
    """Neither a certificate that nobody signed, nor one for another host."""
    files = {"ca": "cert.pem", "cert": "cert.pem", "key": "key.pem"}
    tls = {f"zk_tls_{name}": certificates / files[name] for name in given}
    with Engine(tmp_path, f"{host}:{tls_port}") as engine:
        engine.start_api()
        engine.start_distributor(zk_tls=True, **tls)
        eventually(lambda: "certificate verify failed" in engine.log("distributor"))
        assert "zookeeper.session" not in engine.log("distributor")
        assert engine.stop("distributor") == 0
