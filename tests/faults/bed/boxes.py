"""A root file system for sandboxed executions, with a pipe that takes their trace.

A read-only mount keeps nobody from writing to a pipe in it, so lines arrive straight
from inside the sandbox: also while the executor that started it stands still.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Final

BUSYBOX: Final = Path("/bin/busybox")
APPLETS: Final = ("sh", "usleep", "cat", "echo")
IMAGE: Final = "tracing"
PROGRAM: Final = "/bed/trace.sh"
PIPE: Final = "/bed/trace"
"""Where executions find the two."""

_SCRIPT: Final = """\
# job, process id of the executor, hundredths of seconds to take, exit code
read -r run < /proc/sys/kernel/random/uuid
now() { read -r up rest < /proc/uptime; at=${up%.*}${up#*.}; }
note() { now; echo "$1 $run $2 $at $3" > /bed/trace; }
note "$1" start "$2"
now; until=$((at + $3))
while [ "$at" -lt "$until" ]; do usleep 100000; note "$1" beat "$2"; done
note "$1" end "$2"
echo "$run"
exit "$4"
"""


class Boxes:
    """The root file system, and the thread that carries its pipe to the trace."""

    def __init__(self, directory: Path, trace: Path) -> None:
        self.rootfs_dir = directory / "rootfs"
        self._trace = trace
        self.pipe = self.rootfs_dir / IMAGE / "bed" / "trace"
        self._reader: int | None = None
        self._thread = threading.Thread(target=self._carry, name="boxes", daemon=True)

    def __enter__(self) -> Boxes:
        root = self.rootfs_dir / IMAGE
        for name in ("bin", "bed"):
            (root / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, root / "bin" / "busybox")
        for name in APPLETS:
            (root / "bin" / name).symlink_to("busybox")
        (root / "bed" / "trace.sh").write_text(_SCRIPT)
        os.mkfifo(self.pipe)
        self.pipe.chmod(0o666)
        for path in (self.rootfs_dir, *self.rootfs_dir.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        # Open for writing too, so that it never comes to an end while nobody writes.
        self._reader = os.open(self.pipe, os.O_RDWR)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._reader is not None
        os.write(self._reader, b"stop\n")
        self._thread.join(10)
        os.close(self._reader)

    def _carry(self) -> None:
        assert self._reader is not None
        with open(self._reader, closefd=False) as lines, self._trace.open("a") as sink:
            for text in lines:
                words = text.split()
                if words == ["stop"]:
                    return
                job, run, event, hundredths, process = words
                at = int(hundredths) / 100
                line = {"job": job, "run": run, "event": event, "at": at, "pid": int(process)}
                sink.write(json.dumps(line) + "\n")
                sink.flush()
