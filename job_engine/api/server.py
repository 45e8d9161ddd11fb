"""The API process: serves the application over HTTP until a signal stops it."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from job_engine import garbage, open_files
from job_engine.api.app import create_app
from job_engine.api.http.protocol import BoundedHttpProtocol
from job_engine.errors import ConfigurationError, JobEngineError
from job_engine.log import configure, get_logger
from job_engine.settings import STOP_GRACE_S, ApiSettings
from job_engine.store.sqlite.ownership import sole_owner

log = get_logger(__name__)

STOP_TIMEOUT_S: Final = 2
"""Seconds that running requests have to end when the server stops."""
LAST_RESORT_S: Final = 0.8 * STOP_GRACE_S
"""Seconds from the signal after which the process ends, whatever it still waits for."""
EXIT_STUCK_STORE: Final = 87
"""Exit code of a server whose store did not let it stop."""


class Server(uvicorn.Server):
    """uvicorn's server, which ends event streams before it waits for connections to close."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.app = app
        self.start_error: JobEngineError | None = None
        """The error that kept the application from starting, if it is known."""
        self.on_start: Callable[[], None] | None = None
        """Called once the server answers."""
        self._answers = threading.Event()
        self._stop_fd: int | None = None
        self._lifespan = app.router.lifespan_context
        app.router.lifespan_context = self._noting_errors

    @asynccontextmanager
    async def _noting_errors(self, app: FastAPI) -> AsyncIterator[None]:
        # uvicorn would only log a traceback.
        try:
            async with self._lifespan(app):
                yield
        except JobEngineError as error:
            self.start_error = error
            raise
        except OSError as error:
            self.start_error = ConfigurationError(
                f"{error.filename or 'A file'} cannot be used: {error.strerror}. Name directories "
                "that this user may write with JOB_ENGINE_DATA_DIR, JOB_ENGINE_BLOB_DIR and "
                "JOB_ENGINE_CREDENTIALS_DIR."
            )
            raise self.start_error from error

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and log it."""
        try:
            await super().startup(sockets)
        finally:
            # Also when the port is in use: the next start does not make another one.
            self._print_password()
        if self.started:
            self._answers.set()
            log.info("api.listening", host=self.config.host, port=self.port)
            if self.on_start is not None:
                self.on_start()

    def _print_password(self) -> None:
        password = getattr(self.app.state, "admin_password", None)
        if password is not None:
            # Printed once to the terminal, and not logged, because a log would keep it.
            sys.stdout.write(f"The password of the user `admin` is: {password}\n")
            sys.stdout.flush()
            self.app.state.admin_password = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, end event streams, then wait for running requests."""
        services = getattr(self.app.state, "services", None)
        if services is not None:
            services.streams.close()
        await super().shutdown(sockets)

    def wait_started(self, timeout_s: float) -> bool:
        """Wait until the server answers; return false if it does not. For other threads."""
        return self._answers.wait(timeout_s)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at the first signal, at once at the second.

        Unlike uvicorn's, a stop that was asked for ends the process with 0, not as if
        the signal had killed it.
        """
        self.force_exit = self.should_exit
        self.should_exit = True
        if self._stop_fd is not None:
            # Nothing that locks: the thread that this interrupts may hold the lock.
            os.eventfd_write(self._stop_fd, 1)

    def end_in_time(self) -> None:
        """End the process some seconds after the signal to stop, if it is still running.

        A thread that waits for a hanging database cannot be ended. That is safe: every write
        that was answered is durable, and no other write was reported as done.
        """
        self._stop_fd = stop_fd = os.eventfd(0, os.EFD_CLOEXEC)

        def wait() -> None:
            os.eventfd_read(stop_fd)
            time.sleep(LAST_RESORT_S)
            log.critical("api.exit", code=EXIT_STUCK_STORE, after_s=LAST_RESORT_S)
            os._exit(EXIT_STUCK_STORE)

        threading.Thread(target=wait, name="last-resort", daemon=True).start()

    @property
    def port(self) -> int:
        """The port it listens on, also where a free one was asked for."""
        for server in self.servers:
            for listening in server.sockets:
                return int(listening.getsockname()[1])
        return self.config.port


def make_server(settings: ApiSettings) -> Server:
    """Return a server; `run()` serves, setting `should_exit` stops it."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        # By name, so that a missing package is an error: without them requests take twice as long.
        loop="uvloop",
        http=BoundedHttpProtocol,
        ws="none",
        # `Services.address_of` reads the proxy's headers, from trusted peers only.
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )
    return Server(app, config)


def serve(settings: ApiSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises `SystemExit` where it cannot start, saying why."""
    configure(settings.log_level, settings.log_format)
    open_files.raise_limit()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Bad requests are not logged: their senders could fill the disk.
    for reader in ("uvicorn", "python_multipart"):
        logging.getLogger(reader).setLevel(logging.ERROR)
    try:
        with sole_owner(settings.store_url):
            _run(make_server(settings))
    except JobEngineError as error:
        sys.stderr.write(f"error: {error.message}\n")
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)


def _run(server: Server) -> None:
    """Run a server; raise the error that kept it from starting instead of logging a traceback."""
    logger = logging.getLogger("uvicorn.error")

    def unknown(_record: logging.LogRecord) -> bool:
        return server.start_error is None

    logger.addFilter(unknown)
    server.end_in_time()
    server.on_start = garbage.freeze
    try:
        server.run()
    except SystemExit:
        if server.start_error is not None:
            raise server.start_error from None
        raise
    finally:
        logger.removeFilter(unknown)
