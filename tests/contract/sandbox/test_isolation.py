"""What a phase must not see or reach: the network, the host, its neighbours."""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import psutil
import pytest

from job_engine.sandbox.base import Inputs, PhaseStarted, Reach, Verdict
from tests.contract.sandbox.conftest import Backend
from tests.contract.sandbox.runner import (
    TREE,
    assert_grades_normally,
    phase,
    python,
    run,
    run_all,
    sh,
)

KNOCK = """
import socket, sys
for host, port in {targets!r}:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.socket(family, socket.SOCK_DGRAM).sendto(b"udp", (host, port))
        print("sent", host)
    except OSError: pass
    stream = socket.socket(family, socket.SOCK_STREAM)
    stream.settimeout(1)
    try:
        stream.connect((host, port))
        print("connected", host)
    except OSError: pass
"""


@dataclass
class Ear:
    """A TCP and a UDP listener on one port of all addresses of a network namespace."""

    tcp: socket.socket
    udp: socket.socket
    heard: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        """The port of both."""
        number: int = self.tcp.getsockname()[1]
        return number

    def listen(self) -> list[str]:
        """Return what has arrived so far, without waiting."""
        for sock, kind in ((self.tcp, "tcp"), (self.udp, "udp")):
            sock.setblocking(False)
            try:
                if kind == "tcp":
                    sock.accept()[0].close()
                else:
                    sock.recv(10)
                self.heard.append(kind)
            except BlockingIOError:
                pass
        return self.heard


def make_ear() -> Ear:
    """Listen on all addresses, v4 and v6."""
    tcp = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    udp.bind(("::", tcp.getsockname()[1]))
    return Ear(tcp, udp)


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = make_ear()
    with closing(made.tcp), closing(made.udp):
        yield made


@dataclass(frozen=True)
class OtherHost:
    """A machine of its own: a network namespace, linked to this one by a veth pair."""

    address: str
    ear: Ear


def _run_in_namespace(name: str, function: Callable[[], Ear]) -> Ear:
    """Call a function in a thread that has entered a named network namespace."""
    made: list[Ear] = []

    def enter() -> None:
        with open(f"/run/netns/{name}") as handle:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.setns(handle.fileno(), 0) == 0
        made.append(function())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return made[0]


@pytest.fixture
def other_host(root: None) -> Iterator[OtherHost]:
    name = f"jet{uuid.uuid4().hex[:8]}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    with ExitStack() as stack:
        ip("netns", "add", name)
        stack.callback(ip, "netns", "del", name)
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        # A network of the test's own, so that two runs on one machine do not meet.
        network = f"198.18.{int(name[3:5], 16)}.{int(name[5:7], 16) & 0xFC}"
        here, there = (str(ipaddress.ip_address(network) + n) for n in (1, 2))
        ip("addr", "add", f"{here}/30", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        ip("-n", name, "addr", "add", f"{there}/30", "dev", f"{name}b")
        ip("-n", name, "link", "set", f"{name}b", "up")
        ip("-n", name, "link", "set", "lo", "up")
        ear = _run_in_namespace(name, make_ear)
        stack.callback(ear.tcp.close)
        stack.callback(ear.udp.close)
        yield OtherHost(there, ear)


def host_addresses() -> list[str]:
    """Every address of this host, loopback and bridges included."""
    return [
        entry.address.split("%")[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    ]


def test_the_hosts_own_addresses_are_out_of_reach(backend: Backend, label: str, ear: Ear) -> None:
    # Shows that the ear can hear.
    with socket.create_connection(("127.0.0.1", ear.port)):
        ear.tcp.accept()[0].close()
    targets = [(address, ear.port) for address in host_addresses()]
    result = run(backend.sandbox, label, python(KNOCK.format(targets=targets)))
    assert b"connected" not in result.stdout, result
    assert result.verdict is Verdict.OK
    assert ear.listen() == []
    assert_grades_normally(backend.sandbox, label)


@pytest.mark.netns
def test_another_host_is_out_of_reach(backend: Backend, label: str, other_host: OtherHost) -> None:
    there = (other_host.address, other_host.ear.port)
    with socket.create_connection(there):
        other_host.ear.tcp.accept()[0].close()
    result = run(backend.sandbox, label, python(KNOCK.format(targets=[there])))
    assert b"connected" not in result.stdout, result
    assert other_host.ear.listen() == []
    assert_grades_normally(backend.sandbox, label)


ASK = """
import os, socket
def ask(host, port):
    proxy = os.environ["http_proxy"].removeprefix("http://").split(":")
    with socket.create_connection((proxy[0], int(proxy[1])), 5) as stream:
        stream.sendall(f"CONNECT {{host}}:{{port}} HTTP/1.1\\r\\n\\r\\n".encode())
        return stream.recv(1000).decode().split("\\r\\n")[0]
for host, port in {targets!r}:
    print(ask(host, port))
"""


@pytest.mark.netns
def test_reach_lets_through_the_named_pair_only(
    backend: Backend, label: str, other_host: OtherHost, ear: Ear
) -> None:
    named = (other_host.address, other_host.ear.port)
    local = ("127.0.0.1", ear.port)
    sandbox = backend.make(allow_private_hosts=["{}:{}".format(*named)])
    with closing(sandbox):
        spec = python(
            ASK.format(targets=[named, local, (named[0], 1)])
            + KNOCK.format(targets=[named, *((a, ear.port) for a in host_addresses())]),
            reach=(Reach(host=named[0], port=named[1]),),
        )
        result = run(sandbox, label, spec)
    first, second, third, *rest = result.stdout.decode().splitlines()
    assert first == "HTTP/1.1 200 Connection established"
    assert second.startswith("HTTP/1.1 403")
    assert "not named by this phase" in second
    assert third.startswith("HTTP/1.1 403")
    assert not [line for line in rest if line.startswith("connected")]
    assert other_host.ear.listen() == ["tcp"]
    assert ear.listen() == []


def test_a_named_private_host_needs_the_operator(backend: Backend, label: str, ear: Ear) -> None:
    local = ("127.0.0.1", ear.port)
    spec = python(ASK.format(targets=[local]), reach=(Reach(host=local[0], port=local[1]),))
    result = run(backend.sandbox, label, spec)
    assert b"403" in result.stdout
    assert b"private address" in result.stdout
    assert ear.listen() == []


def test_a_phase_after_one_with_reach_has_none(backend: Backend, label: str, ear: Ear) -> None:
    knock = "import socket; socket.create_connection(('127.0.0.1', 3128), 1)"
    [first, second] = run_all(
        backend.sandbox,
        label,
        phase("first", "python3", "-c", knock, reach=(Reach(host="127.0.0.1", port=ear.port),)),
        phase("second", "python3", "-c", knock),
    )
    assert first.verdict is Verdict.OK, first
    assert b"ConnectionRefusedError" in second.stderr


def test_loopback_of_its_own_works(backend: Backend, label: str) -> None:
    program = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 8080))\n"
        "client = socket.create_connection(('127.0.0.1', 8080))\n"
        "client.sendall(b'x'); print(server.accept()[0].recv(1))"
    )
    assert run(backend.sandbox, label, python(program)).stdout == b"b'x'\n"


def test_a_neighbour_is_invisible(backend: Backend, label: str) -> None:
    secret = f"neighbour-{uuid.uuid4().hex}"
    neighbour = sh(f"touch {secret} /tmp/{secret} /dev/shm/{secret}; exec sleep 30 # {secret}")
    slot = backend.sandbox.prepare(label=label, phases=(neighbour,), trees=(TREE,))
    try:
        slot.go(Inputs())
        assert isinstance(next(slot.collect()), PhaseStarted)
        part = secret[10:]
        script = (
            f"find / -name '*{part}*' 2>/dev/null; ls /proc | grep -c '^[0-9]';"
            " cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 30'; ls -A /tmp /dev/shm"
        )
        result = run(backend.sandbox, label, sh(script))
        lines = result.stdout.decode().splitlines()
        assert int(lines[0]) < 10
        # Its own script holds the words; nothing else may.
        assert int(lines[1]) <= 1
        assert part not in result.stdout.decode()
    finally:
        slot.destroy()


ESCAPES = {
    "user namespace": "import ctypes; exit(ctypes.CDLL(None).unshare(0x10000000) == 0)",
    "mount": "import ctypes; exit(ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, 0) == 0)",
    "packet socket": "import socket; socket.socket(17, 3, 0)",
    "vsock": "import socket; socket.socket(40, 1, 0)",
    "kernel crypto": "import socket; socket.socket(38, 5, 0)",
    "raw socket": "import socket; socket.socket(2, 3, 1)",
    "keyring": "import ctypes; exit(ctypes.CDLL(None).syscall(250, 0, -3, 1) >= 0)",
    "bpf": "import ctypes; exit(ctypes.CDLL(None).syscall(321, 0, 0, 0) >= 0)",
    "io_uring": "import ctypes; exit(ctypes.CDLL(None).syscall(425, 1, 0) >= 0)",
    "userfaultfd": "import ctypes; exit(ctypes.CDLL(None).syscall(323, 1) >= 0)",
    "kernel aio, of which the host has one stock": (
        "import ctypes; exit(ctypes.CDLL(None).syscall(206, 1, ctypes.byref(ctypes.c_long())) >= 0)"
    ),
    "the host's device events": "import socket; socket.socket(16, 3, 15)",
    "device node": "import os; os.mknod('/tmp/d', 0o20666, os.makedev(1, 8))",
    "kernel log": "open('/dev/kmsg')",
    "sysctl": "open('/proc/sys/kernel/hostname', 'w').write('x')",
    "sysrq": "open('/proc/sysrq-trigger', 'w').write('x')",
    "chown": "import os; open('f', 'w'); os.chown('f', 0, 0)",
    "root": "import os; os.setuid(0)",
    "the host's passwords": "open('/etc/shadow')",
    "the host's root": "open('/proc/1/root/etc/shadow')",
}


@pytest.mark.parametrize("name", ESCAPES)
def test_operations_that_an_ordinary_user_may_not_do_fail(
    backend: Backend, label: str, name: str
) -> None:
    program = f"try:\n    {ESCAPES[name]}\nexcept OSError: pass\nelse: exit(1)\nexit(0)"
    result = run(backend.sandbox, label, python(program))
    assert result.verdict is Verdict.OK, (name, result)


def test_set_uid_programs_give_nothing(backend: Backend, label: str) -> None:
    script = "find / -xdev -perm -4000 -type f 2>/dev/null | head -1; su -c id 2>&1; sudo id 2>&1"
    result = run(backend.sandbox, label, sh(script + "; id -u"))
    assert b"uid=0" not in result.stdout
    assert result.stdout.decode().split()[-1] != "0"


def test_nothing_but_trees_and_tmp_is_writable(backend: Backend, label: str) -> None:
    script = (
        "for d in $(find / -path /proc -prune -o -type d -print 2>/dev/null);"
        " do (: > $d/.probe) 2>/dev/null && echo $d; done"
    )
    result = run(backend.sandbox, label, sh(script))
    allowed = ("/mnt/submission", "/tmp", "/dev/shm", "/dev/mqueue", "/var/tmp")
    writable = [d for d in result.stdout.decode().split() if not d.startswith(allowed)]
    assert writable == []


def test_a_phase_that_ends_the_first_process_of_its_sandbox_has_a_verdict(
    backend: Backend, label: str
) -> None:
    """It may trace that process, which is of its uid. A fault would be tried again for free."""
    attach, set_options, exit_kill = 16, 0x4200, 0x10_0000
    script = (
        "import ctypes, os\n"
        "ptrace = ctypes.CDLL(None).ptrace\n"
        f"assert ptrace({attach}, 1, None, None) == 0\n"
        "os.waitpid(1, 0x40000000)\n"
        f"assert ptrace({set_options}, 1, None, ctypes.c_long({exit_kill})) == 0\n"
    )
    result = run(backend.sandbox, label, python(script))
    assert (result.verdict, result.signal, result.stderr) == (Verdict.SIGNAL, 9, b"")
