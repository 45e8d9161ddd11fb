"""Wall clocks that are wrong: one for each process, and put forward or back while it runs.

A library that is loaded before all others adds an offset to what the system says, and
reads it anew each time. Monotonic clocks stay as they are, as they do where a machine's
clock is set.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_FILE: Final = "JOB_ENGINE_TEST_CLOCK"
_SOURCE: Final = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *offset_s;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("JOB_ENGINE_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    real = dlsym(RTLD_NEXT, "clock_gettime");
    if (file < 0) return;
    void *seen = mmap(NULL, sizeof *offset_s, PROT_READ, MAP_SHARED, file, 0);
    if (seen != MAP_FAILED) offset_s = seen;
    close(file);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, now);
    if (!failed && offset_s && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        now->tv_sec += *offset_s;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *also) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (also) *also = exact.tv_sec;
    return exact.tv_sec;
}
"""


def has_compiler() -> bool:
    """Whether the library can be made here."""
    return shutil.which("gcc") is not None


class Clocks:
    """The wall clocks of processes, by their names; all are right until they are set.

    Without a compiler there are none, and `environment` is empty.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "clocks"
        self._library = self._directory / "clock.so"

    def make(self) -> None:
        """Build the library."""
        self._directory.mkdir(parents=True)
        if not has_compiler():
            return
        source = self._directory / "clock.c"
        source.write_text(_SOURCE)
        options = ["-shared", "-fPIC", "-O2", "-ldl"]
        subprocess.run(["gcc", source, "-o", self._library, *options], check=True)

    def environment(self, name: str) -> Mapping[str, str]:
        """What a process is started with to have a clock of its own."""
        if not self._library.exists():
            return {}
        if not self._file(name).exists():
            self.set(name, 0)
        return {"LD_PRELOAD": str(self._library), _FILE: str(self._file(name))}

    def set(self, name: str, offset_s: int) -> None:
        """Put the clock of a process forward, or back, by so much from the right time."""
        # Written in place: processes have mapped it.
        with self._file(name).open("r+b" if self._file(name).exists() else "wb") as file:
            file.write(struct.pack("q", offset_s))

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.offset"
