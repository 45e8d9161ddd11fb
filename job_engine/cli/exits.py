"""Exit codes of `job-engine`, and turning errors into them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import requests
import typer
from nuvla.api.api import NuvlaError

from job_engine.cli.zookeeper import NoZooKeeperError
from job_engine.errors import ApiUnavailableError, ConfigurationError, JobEngineError

OK: Final = 0
LOST_POINTS: Final = 1
USAGE: Final = 2
JOB_FAILED: Final = 3
UNREACHABLE: Final = 4
REFUSED: Final = 5
INTERRUPTED: Final = 130
"""After Ctrl-C, as shells have it."""

EXIT_CODES: Final = """\
Exit codes: 0 full score; 1 points or tests lost; 2 wrong usage; 3 the job FAILED or was \
CANCELED; 4 no engine answers; 5 the engine refused the request."""


class NotLoggedInError(JobEngineError):
    """You are not logged in, or your login may not do this. See `job-engine login --help`."""


@contextmanager
def errors_as_exits() -> Iterator[None]:
    """In the block, an expected error ends the command with its message and exit code."""
    try:
        yield
    except ConfigurationError as error:
        leave(error.message, USAGE)
    except (ApiUnavailableError, NoZooKeeperError) as error:
        leave(error.message, UNREACHABLE)
    except NuvlaError as error:
        leave(_refusal(error), REFUSED)
    except JobEngineError as error:
        leave(error.message, REFUSED)
    except requests.RequestException as error:
        leave(f"The engine stopped answering: {error}", UNREACHABLE)


def leave(message: str, code: int) -> None:
    """Print an error and end the command."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)


def _refusal(error: NuvlaError) -> str:
    text = str(error.reason)
    if error.response is not None and error.response.status_code == 403:
        return f"{NotLoggedInError().message} (The engine said: {text})"
    return text
