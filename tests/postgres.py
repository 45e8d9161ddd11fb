"""A PostgreSQL server of the tests' own: private, on a socket file, gone with who started it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy import URL

_DEBIAN: Final = Path("/usr/lib/postgresql")
_START_S: Final = 60.0
_OPTIONS: Final = {"listen_addresses": "", "max_connections": "200"}
# Only processes die in tests, never the machine; nobody waits for its disk.
_FORGETFUL: Final = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB"}


class NoPostgresError(Exception):
    """PostgreSQL cannot be started here; the message says why."""


@contextmanager
def private_server(*, durable: bool = False) -> Iterator[URL]:
    """Run a server until the block ends; the URL is that of a superuser.

    One that is `durable` keeps what it said is written even if the machine stops, and is
    set up as PostgreSQL comes. Its language is English where it can be, so that whoever does
    not say otherwise gets text in the order of people.
    Raises `NoPostgresError`.
    """
    programs = _programs()
    directory = Path(tempfile.mkdtemp(prefix="job-engine-postgres-"))
    try:
        _hand_over(directory)
        data = directory / "data"
        initdb = [f"{programs}/initdb", f"--pgdata={data}", "--username=postgres", "--auth=trust"]
        initdb += ["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", *_english(programs)]
        made = subprocess.run([*_as_postgres(), *initdb], capture_output=True, text=True)
        if made.returncode:
            raise NoPostgresError(f"initdb failed: {made.stderr.strip()}")
        command = [f"{programs}/postgres", "-D", f"{data}", "-k", f"{directory}"]
        for name, value in (_OPTIONS | ({} if durable else _FORGETFUL)).items():
            command += ["-c", f"{name}={value}"]
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen([*_as_postgres(), *command], stdout=log, stderr=log)
        try:
            url = URL.create(
                "postgresql", "postgres", database="postgres", query={"host": str(directory)}
            )
            _wait(url, server, directory / "log")
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # without waiting for who is connected
            server.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def database(server: URL, template: str = "template1") -> Iterator[URL]:
    """Make a database until the block ends, as a copy of another one."""
    name = f"test_{uuid.uuid4().hex}"
    run(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield server.set(database=name)
    finally:
        run(server, f"DROP DATABASE {name} WITH (FORCE)")


def run(url: URL, *statements: str) -> None:
    """Run statements, each by itself."""
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
        poolclass=sa.NullPool,
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def text_of(url: URL) -> str:
    """The URL as settings take it."""
    return url.render_as_string(hide_password=False)


def _programs() -> Path:
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).parent
    versions = sorted(_DEBIAN.glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    if not versions:
        raise NoPostgresError("PostgreSQL is not installed: apt-get install postgresql")
    return versions[-1].parent


def _english(programs: Path) -> list[str]:
    known = subprocess.run([programs / "initdb", "--help"], capture_output=True, text=True)
    if "--icu-locale" not in known.stdout:  # before PostgreSQL 15
        return []
    return ["--locale-provider=icu", "--icu-locale=en"]


def _as_postgres() -> list[str]:
    """A server ends with the process that started it, and refuses to run as root."""
    drop = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", "--pdeathsig=INT", *drop, "--"]


def _hand_over(directory: Path) -> None:
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError as error:
            raise NoPostgresError("There is no user `postgres` to run it as.") from error
        os.chown(directory, user.pw_uid, user.pw_gid)


def _wait(url: URL, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while True:
        try:
            run(url, "SELECT 1")
        except sa.exc.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise NoPostgresError(f"PostgreSQL did not start: {log.read_text()}") from error
            time.sleep(0.05)
        else:
            return
