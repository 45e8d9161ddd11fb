"""Launching a phase: its sandbox is set up in advance, and its command waits for a go.

Making namespaces and mounts takes most of the time of a short phase, and does not depend on the
submission. So bwrap does it in advance, and starts the command once a byte arrives on
`--block-fd`. A phase whose environment comes with the submission is launched by `go`, while the
trees are filled and earlier phases run.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Final

from job_engine.errors import SandboxError
from job_engine.sandbox.base import PhaseSpec
from job_engine.sandbox.bubblewrap.cgroups import Group
from job_engine.sandbox.bubblewrap.command import set_environment
from job_engine.sandbox.bubblewrap.wire import Channel
from job_engine.sandbox.policy import PROXY_ADDRESS

OPEN_FILES: Final = 4096
_START_TIMEOUT_S: Final = 30.0


def may_wait(phase: PhaseSpec) -> bool:
    """Return whether a phase can be set up before its submission arrives.

    Not one with a mount inside another one, whose directory the submission may contain; nor one
    with a root of its own, which earlier phases may still change.
    """
    targets = [mount.target.rstrip("/") for mount in phase.mounts]
    nested = any(one.startswith(f"{other}/") for one in targets for other in targets)
    return phase.own_root is None and not nested


class Launch:
    """One bwrap in a slot, from its start until its command may run; `close` it in the end."""

    def __init__(
        self,
        spec: PhaseSpec,
        options: list[str],
        env: Mapping[str, str],
        channel: Channel,
        group: Group,
    ) -> None:
        """Ask the holder to start it; `env` is added to the phase's own environment.

        Raises `OSError` when the holder is gone.
        """
        self._spec = spec
        self._channel = channel
        self._news, news = Channel.pair()
        self._news.sock.settimeout(_START_TIMEOUT_S)
        stdin, self._feed = os.pipe()
        self.out, stdout = os.pipe()
        self.err, stderr = os.pipe()
        theirs = [stdin, stdout, stderr, news.sock.detach()]
        options = [*options, *set_environment(env)]
        try:
            theirs += group.entrances()
            command = os.fsencode("\0".join([*options, *spec.command]))
            channel.send(self._request(len(options)), command, theirs)
        except BaseException:
            self.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        for fd in (self.out, self.err, self._feed):
            os.set_blocking(fd, False)

    def started(self) -> int | None:
        """Wait until its sandbox is set up; return the socket for its egress proxy, if any.

        None also for one that died before: its end then has the reason. Raises `SandboxError`
        when it could not be started.
        """
        try:
            message = self._news.receive()
        except TimeoutError as error:
            raise SandboxError("a phase does not start") from error
        if message is not None and "broken" in message.head:
            raise SandboxError(message.head["broken"])
        return message.fds[0] if message is not None and message.fds else None

    def go(self, operation: str, stdin: bytes, **more: Any) -> None:
        """Let its command run, with this on standard input. Raises `SandboxError`."""
        # It fits the pipe's 64 KiB, the limit of `check_inputs`.
        if stdin and os.write(self._feed, stdin) != len(stdin):
            raise SandboxError("the kernel's pipes are too small for the phase's input")
        os.close(self._feed)
        self._feed = -1
        self._channel.send({"op": operation, "name": self._spec.name, **more})

    def failure(self) -> str | None:
        """Return why bwrap could not be run, once it has ended."""
        message = self._news.receive()
        return None if message is None else str(message.head["broken"])

    def drop(self) -> None:
        """End it before its command ran."""
        self._channel.send({"op": "drop", "name": self._spec.name})
        self.close()

    def close(self) -> None:
        """Close its descriptors. Idempotent."""
        self._news.close()
        for fd in (self._feed, self.out, self.err):
            if fd >= 0:
                os.close(fd)
        self._feed = self.out = self.err = -1

    def _request(self, options: int) -> dict[str, Any]:
        limits = self._spec.limits
        return {
            "op": "start",
            "name": self._spec.name,
            "options": options,
            "listen": PROXY_ADDRESS if self._spec.reach else None,
            "own_root": self._spec.own_root is not None,
            "writable": [mount.tree for mount in self._spec.mounts if not mount.read_only],
            "scratch_bytes": limits.memory_bytes // 2,
            "file_size_bytes": limits.file_size_bytes,
            "rlimits": [
                ("FSIZE", limits.file_size_bytes),
                ("CPU", math.ceil(limits.cpu_time_kill_s) + 1),
                ("NOFILE", OPEN_FILES),
                # core(5): 0 would still start the host's core-dump program; 1 does not.
                ("CORE", 1),
            ],
        }
