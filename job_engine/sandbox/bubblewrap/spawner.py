"""The executor's side of the zygote: starts it, requests holders, and stops it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from job_engine.errors import SandboxError
from job_engine.sandbox.bubblewrap.wire import Channel, Message

_START_TIMEOUT_S: Final = 30.0
_SPAWN_TIMEOUT_S: Final = 15.0
_PASSED_ON: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")


class Spawner:
    """A zygote, which is started for the first holder, and again if it has died."""

    module: ClassVar[str] = f"{__package__}.zygote"
    """The program that is started."""

    def __init__(self, rootfs_dir: Path | None, kept_dir: Path | None, kvm: bool) -> None:
        self._arguments = ["kvm" if kvm else "-", str(rootfs_dir or ""), str(kept_dir or "")]
        self._kept_dir = kept_dir
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._closed = False

    def spawn(
        self,
        uid: int,
        channel: Channel,
        lock: int,
        entrances: Sequence[int],
        own_root: Mapping[str, Any] | None = None,
    ) -> int:
        """Fork a holder under host uids `uid` and `uid + 1`; return a pidfd of it.

        `own_root` is the first id of the `range` of a slot that is its own root, and its
        `layers`. Raises `SandboxError`.
        """
        head = {"uid": uid, **(own_root or {"range": None, "layers": []})}
        with self._lock:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            zygote = self._channel or self._start()
            try:
                zygote.send(head, fds=[channel.fileno(), lock, *entrances])
                answer = zygote.receive()
            except OSError as error:
                self._stop()
                raise SandboxError(f"the bubblewrap zygote does not answer: {error}") from error
            if answer is None:
                self._stop()
                raise SandboxError("the bubblewrap zygote has died")
        return _pidfd(answer)

    def close(self) -> None:
        """End the zygote, and with it every holder. Idempotent."""
        with self._lock:
            self._closed = True
            self._stop()

    def _start(self) -> Channel:
        if self._kept_dir is not None:
            self._kept_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        channel, theirs = Channel.pair()
        channel.sock.settimeout(_START_TIMEOUT_S)
        fd = theirs.fileno()
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-X",
                "utf8",
                "-m",
                self.module,
                str(fd),
                *self._arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Minimal, because processes of a slot may be able to read it.
            env=env,
            pass_fds=[fd],
            # An interrupt from the terminal must reach only the executor, which then drains.
            start_new_session=True,
        )
        theirs.close()
        self._channel = channel
        try:
            answer = channel.receive()
        except TimeoutError:
            answer = None
        if answer is None or "error" in answer.head:
            self._stop()
            reason = answer.head["error"] if answer else "it died, or took too long"
            raise SandboxError(f"the bubblewrap zygote did not start: {reason}")
        channel.sock.settimeout(_SPAWN_TIMEOUT_S)
        return channel

    def _stop(self) -> None:
        if self._channel is not None:
            self._channel.sock.shutdown(socket.SHUT_RDWR)
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _pidfd(answer: Message) -> int:
    if "error" in answer.head or not answer.fds:
        raise SandboxError(f"cannot make a slot: {answer.head.get('error')}")
    return answer.fds[0]
