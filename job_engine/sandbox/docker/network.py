"""Egress for phases with `reach`: a proxy on the loopback of the holder's network namespace.

The holder's network namespace has a loopback and nothing else. Phases share it, one after
another; one that may reach something finds the proxy's listening socket there, for as long as
it runs. The proxy itself runs in the executor. A process that may enter the namespace opens
the socket there itself. One that may not (an executor in a container with the daemon's socket)
starts a forwarder in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from job_engine.errors import SandboxError, SandboxRefusedError
from job_engine.sandbox.base import Reach
from job_engine.sandbox.docker import confine
from job_engine.sandbox.docker.confine import Place
from job_engine.sandbox.docker.daemon import Daemon
from job_engine.sandbox.docker.forwarding import Forwarding, command
from job_engine.sandbox.docker.images import Images
from job_engine.sandbox.egress import EgressProxy
from job_engine.sandbox.policy import PROXY_ADDRESS
from job_engine.settings import SandboxSettings

_CLONE_NEWNET = 0x4000_0000
_BACKLOG = 64


class Gate:
    """Opens and closes the egress of slots."""

    def __init__(self, daemon: Daemon, images: Images, settings: SandboxSettings) -> None:
        self._daemon = daemon
        self._images = images
        self._allowed = settings.allow_private_hosts
        self._image = settings.docker_holder_image

    @contextlib.contextmanager
    def opened(self, place: Place, reach: tuple[Reach, ...]) -> Iterator[None]:
        """While entered, let a phase connect to its `reach`.

        Raises `SandboxError` if that fails, because a phase never runs with less (fail-closed).
        """
        if not reach or place.holder is None:
            yield
            return
        with contextlib.ExitStack() as stack:
            proxy = EgressProxy(reach, self._allowed)
            listener = _listen_inside(place.holder, place.holder_pid)
            if listener is None:
                listener = stack.enter_context(self._forwarder(place))
            stack.enter_context(proxy)  # Last in, first out: it stops before its listener goes.
            proxy.serve(listener)
            yield

    @contextlib.contextmanager
    def _forwarder(self, place: Place) -> Iterator[socket.socket]:
        image = self._images.own()
        if image is None and self._image is not None:
            image = self._images.find(self._image)
        if image is None:
            raise SandboxRefusedError(
                "a phase with `reach` needs an executor that is root on the Docker host, or one "
                "that runs in a container there, or docker_holder_image with a python3"
            )
        config = confine.helper_container(image, place, command())
        container = self._daemon.create(f"job-engine-{place.slot}-forwarder", config)
        try:
            with Forwarding(self._daemon.attach(container, stdin=True)) as forwarding:
                self._daemon.start(container)
                forwarding.wait_ready()
                yield forwarding.listener
        finally:
            self._daemon.remove(container)


def _listen_inside(holder: str, pid: int) -> socket.socket | None:
    """Return a socket that listens in the holder's namespace; None where we may not enter."""
    try:
        # A pid means something only in the daemon's own pid namespace.
        if holder not in Path(f"/proc/{pid}/cgroup").read_text():
            return None
        return _listen_in(Path(f"/proc/{pid}/ns/net"))
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return None
    except OSError as error:
        raise SandboxError(f"no egress proxy in the slot's network: {error}") from error


def _listen_in(namespace: Path) -> socket.socket:
    """Return a listening socket that belongs to a network namespace; raises `OSError`."""
    outcome: list[socket.socket | OSError] = []

    def listen() -> None:
        try:
            _enter(namespace)
            outcome.append(socket.create_server(PROXY_ADDRESS, backlog=_BACKLOG))
        except OSError as error:
            outcome.append(error)

    # The namespace is the thread's: it dies in there, and no other thread has moved.
    thread = threading.Thread(target=listen, name="netns")
    thread.start()
    thread.join()
    result = outcome[0]
    if isinstance(result, OSError):
        raise result
    return result


def _enter(namespace: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns is new in Python 3.12.
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
