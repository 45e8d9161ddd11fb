"""Where a drain's time goes: CPU time for each job, by process, and profiles by py-spy.

    python -m benchmarks.profile_drain [--jobs N] [--directory DIR]

py-spy writes `<process>.raw` (stacks and their samples, as flame graphs are made of) into
the directory; the functions in which most samples of a process were are printed: those
that held the interpreter's lock, and, for the two threads whose round trips set the pace,
all of them, so that it shows what they wait for.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.drain import THREADS
from benchmarks.servers import Running, engine, start_executor, wait_for, zookeeper

SERVICES: Final = ("api", "executor", "distributor")
PACE: Final = {
    "executor": "Claimer._loop",
    "distributor": "ActionLeader.step",
    "api": "SqliteDatabase._run",
}
"""The threads that set the pace, by what they are in."""
LISTED: Final = 25
OURS: Final = ("job_engine/", "executor/", "distributor/", "actions/")


def cpu_s(pids: dict[str, int]) -> dict[str, float]:
    """CPU time that each process has had so far."""
    times = {name: psutil.Process(pid).cpu_times() for name, pid in pids.items()}
    return {name: found.user + found.system for name, found in times.items()}


def pids_of(running: Running) -> dict[str, int]:
    """The engine's processes, and ZooKeeper's."""
    java = [c.pid for c in psutil.Process().children(recursive=True) if "java" in c.name()]
    return {**{name: running.pid(name) for name in SERVICES}, "zookeeper": java[0]}


def record(running: Running, seconds: int, directory: Path) -> list[subprocess.Popen[bytes]]:
    """Start py-spy on each service."""
    directory.mkdir(parents=True, exist_ok=True)
    wanted = [(name, "--gil", name) for name in SERVICES]
    wanted += [(name, "--idle", f"{name}-waiting") for name in PACE]
    spy = shutil.which("py-spy") or str(Path(sys.executable).with_name("py-spy"))
    return [
        subprocess.Popen(
            [
                *(spy, "record", "--duration", str(seconds), "--rate", "50", "--nonblocking"),
                *("--format", "raw", mode, "--pid", str(running.pid(name))),
                *("--output", str(directory / f"{file}.raw")),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, mode, file in wanted
    ]


def heaviest(file: Path, within: str = "") -> tuple[int, list[tuple[str, int]]]:
    """Return the samples of a profile, and our own functions by how many they were in.

    Only those stacks count that have `within` in them.
    """
    inside: Counter[str] = Counter()
    total = 0
    for line in file.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        if within not in stack:
            continue
        total += int(samples)
        for frame in {_function(frame) for frame in stack.split(";")}:
            inside[frame] += int(samples)
    ours = Counter({f: n for f, n in inside.items() if any(part in f for part in OURS)})
    return total, ours.most_common(LISTED)


def _function(frame: str) -> str:
    """Drop the line's number, so that a function is counted once."""
    return frame.rpartition(":")[0] or frame


def main() -> None:
    """Drain, and print where the time went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=5, help="how long py-spy looks")
    parser.add_argument("--directory", type=Path, default=Path("profiles"))
    wanted = parser.parse_args()
    console, files = Console(), wanted.directory
    with zookeeper() as hosts, engine(hosts, threads=THREADS) as running:
        running.engine.stop("executor")
        running.create([{"action": "nothing"}] * wanted.jobs)
        already = running.succeeded()
        start_executor(running.engine, threads=THREADS)
        wait_for(lambda: running.succeeded() > already + wanted.jobs // 10, 60, "a tenth")
        pids = pids_of(running)
        done, before, started = running.succeeded(), cpu_s(pids), time.monotonic()
        spies = record(running, wanted.seconds, files)
        running.wait_drained()
        took, after = time.monotonic() - started, cpu_s(pids)
        for spy in spies:
            spy.wait()
    jobs = already + wanted.jobs - done
    table = Table("process", "CPU ms a job", "of one core", title=f"{jobs / took:.0f} jobs/s")
    for name in pids:
        used = after[name] - before[name]
        table.add_row(name, f"{1000 * used / jobs:.3f}", f"{100 * used / took:.0f} %")
    console.print(table)
    for name in SERVICES:
        show(
            console,
            f"{name}, while it holds the interpreter's lock",
            heaviest(files / f"{name}.raw"),
        )
    for name, within in PACE.items():
        found = heaviest(files / f"{name}-waiting.raw", within)
        show(console, f"{name}, {within}, waiting or not", found)


def show(console: Console, title: str, found: tuple[int, list[tuple[str, int]]]) -> None:
    """Print functions by their part of the samples."""
    total, functions = found
    console.print(f"[bold]{title}[/], {total} samples")
    for function, samples in functions:
        console.print(f"  {100 * samples / max(1, total):3.0f} %  {function}", highlight=False)


if __name__ == "__main__":
    main()
