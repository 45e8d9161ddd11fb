"""Sending requests to the API: login, time limits and retries.

A request is repeated if it is safe to carry out twice, if it cannot have arrived, or if the API
asked to wait (429). Any other request without an answer may have been carried out; the caller
has to find out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import requests
from nuvla.api.api import Api as NuvlaApi
from nuvla.api.api import NuvlaError, SessionStore, to_login_params
from pydantic import BaseModel, ValidationError
from requests.adapters import HTTPAdapter

from job_engine.client.refusals import RefusedError, UnansweredError
from job_engine.client.retries import (
    PUT_OFF,
    TRANSIENT,
    TransientError,
    is_repeatable,
    never_sent,
    reason_of,
    retry,
)
from job_engine.errors import ApiUnavailableError, ConfigurationError
from job_engine.log import get_logger

log = get_logger(__name__)

CONNECT_TIMEOUT_S: Final = 3.05
REQUEST_TIMEOUT_S: Final = (CONNECT_TIMEOUT_S, 15.0)
"""Seconds to connect, and to wait for the next byte, for the engine's own calls."""

CHUNK: Final = 1 << 16

_LOGIN_REFUSED: Final = frozenset({401, 403, PUT_OFF})
"""Answers to a login with a key that is wrong, or was wrong too often."""

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class FileBody:
    """A request body that is read from the file's start whenever it is sent.

    Requests are repeated after a new login and after a broken connection, when a file object
    would already be at its end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        return self._path.stat().st_size

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as source:
            while chunk := source.read(CHUNK):
                yield chunk


class _Session(SessionStore):  # type: ignore[misc]
    """The parent's session, with a default time limit for requests."""

    timeout_s: float
    verify: bool | str
    reread: Callable[[], Mapping[str, str] | None] | None = None
    """Returns the credentials as they are now."""
    not_let_in: str | None = None
    """What the API had against the last login."""

    def cimi_login(self, login_params: dict[str, str]) -> requests.Response | None:
        """Log in; if that is refused and the credentials were replaced, with the new ones."""
        reply = self._log_in(login_params)
        self.not_let_in = _objection(reply)
        return reply

    def _log_in(self, login_params: dict[str, str]) -> requests.Response | None:
        reply: requests.Response | None = super().cimi_login(login_params)
        if reply is None or reply.status_code not in _LOGIN_REFUSED or self.reread is None:
            return reply
        renewed = to_login_params(dict(self.reread() or {}))
        if not renewed or renewed == login_params:
            return reply
        log.info("credentials.renewed", key=renewed.get("key"))
        newer: requests.Response | None = super().cimi_login(renewed)
        return newer

    def settle_environment(self, url: str) -> None:
        """Read proxies and certificate authorities from the environment, once.

        Reading them for each request takes longer than sending a small one. `.netrc` is
        ignored, because credentials are explicit here.
        """
        found = self.merge_environment_settings(url, {}, None, None, None)
        self.proxies = found["proxies"]
        if self.verify is True:
            self.verify = found["verify"]
        self.trust_env = False

    def _request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", (CONNECT_TIMEOUT_S, self.timeout_s))
        response: requests.Response = super()._request(*args, **kwargs)
        return response


class Transport(NuvlaApi):  # type: ignore[misc]
    """A `nuvla.api.Api` whose requests have time limits, and are retried if that is safe.

    Args:
        endpoint: the API's address, such as `http://127.0.0.1:8020`.
        credentials: `key` and `secret`, or `username` and `password`; None: log in yourself.
        reread: returns the credentials as they are now; called when a login is refused.
        insecure: accept any certificate.
        retry_s: seconds in all for which a request is retried; 0: never.
        timeout_s: seconds to wait for the answer to one request.

    A refused request raises `RefusedError`, one without an answer in time `UnansweredError`, and
    what is no address `ConfigurationError`. Threads may share the client; `with` closes it.
    """

    session: _Session

    def __init__(
        self,
        endpoint: str,
        *,
        credentials: Mapping[str, str] | None = None,
        reread: Callable[[], Mapping[str, str] | None] | None = None,
        insecure: bool = False,
        retry_s: float = 30.0,
        timeout_s: float = 60.0,
    ) -> None:
        endpoint = _address(endpoint)
        # Without this, the cookie would not be sent to a plain http endpoint.
        insecure = insecure or endpoint.startswith("http://")
        super().__init__(
            endpoint=endpoint,
            insecure=insecure,
            persist_cookie=False,
            reauthenticate=True,
            login_creds=dict(credentials) if credentials is not None else None,
        )
        login = self.session.login_params
        self.session = _Session(endpoint, False, None, True, login)
        self.session.reread = reread
        self.session.verify = not insecure
        self.session.settle_environment(endpoint)
        self.session.timeout_s = timeout_s
        self._retry_s = retry_s
        self._closing = threading.Event()
        adapter = HTTPAdapter(pool_maxsize=64)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End retries, waits and connections; a call in progress raises `UnansweredError`."""
        self._closing.set()
        self.session.close()

    def pause(self, seconds: float) -> None:
        """Wait `seconds`. Raises `ApiUnavailableError` at once if the client is closed."""
        if self._closing.wait(seconds):
            raise ApiUnavailableError("The client was closed.")

    def ready(self) -> bool:
        """Return whether the API answers now, without retries."""
        try:
            response = self.session.get(
                f"{self.endpoint}/api/health/ready", timeout=REQUEST_TIMEOUT_S
            )
        except requests.RequestException:
            return False
        return bool(response.status_code == 200)

    # --- CIMI: what the parent's methods send ------------------------------------

    def _cimi_request(
        self,
        method: str,
        uri: str,
        params: Any = None,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send one request, with retries where they are safe."""
        again = is_repeatable(method, uri, headers or {})
        attempts = 0

        def attempt() -> Any:
            nonlocal attempts
            attempts += 1
            try:
                return self._cimi_once(method, uri, params, json, data, headers, again=again)
            except RefusedError as error:
                if method == "DELETE" and attempts > 1 and error.status == 404:
                    # An earlier attempt, whose answer was lost, has deleted it.
                    return {"status": 200, "message": f"{uri} deleted", "resource-id": uri}
                raise

        return self._again(attempt, self._retry_s, UnansweredError)

    def _cimi_once(self, method: str, uri: str, *rest: Any, again: bool) -> Any:
        try:
            return super()._cimi_request(method, uri, *rest)
        except NuvlaError as error:
            if error.response is None:
                raise
            status = error.response.status_code
            conflicts = (
                again and method == "POST" and status == 409
            )  # the first attempt is still being served
            # An invalid search is a 500, too, and repeating it would not help.
            if status == PUT_OFF or (again and status in TRANSIENT - {500}) or conflicts:
                raise TransientError(str(error.reason), error.response, error.reason) from error
            reason = str(error.reason)
            if status == 403 and self.session.not_let_in is not None:
                reason += f"; the login was refused: {self.session.not_let_in}"
            raise RefusedError(reason, error.response) from error
        except requests.JSONDecodeError as error:
            raise UnansweredError(f"What answers is not the API: {error}") from error
        except requests.RequestException as error:
            if again or never_sent(error):
                raise TransientError(reason_of(error)) from error
            raise UnansweredError(
                f"The API at {self.endpoint} did not answer; whether it did as asked is not known: "
                f"{reason_of(error)}"
            ) from error

    # --- the engine's own messages --------------------------------------------------

    def _post(self, path: str, body: BaseModel, kind: type[M], retry_s: float | None = None) -> M:
        return parsed(self._call("POST", path, body=body, retry_s=retry_s), kind)

    def _get(self, path: str, kind: type[M], **params: Any) -> M:
        return parsed(self._call("GET", path, params=params), kind)

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        data: FileBody | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, Any] | None = None,
        stream: bool = False,
        retry_s: float | None = None,
    ) -> requests.Response:
        """Send a request that is safe to send twice."""
        headers = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
        payload = None if body is None else body.model_dump_json(exclude_none=True).encode()

        def attempt() -> requests.Response:
            try:
                response = self.session.request(
                    method,
                    f"{self.endpoint}/api/{path}",
                    data=payload if data is None else data,
                    headers=headers,
                    params=params,
                    stream=stream,
                    timeout=REQUEST_TIMEOUT_S,
                    allow_redirects=False,
                )
            except (requests.RequestException, OSError) as error:
                raise TransientError(reason_of(error)) from error
            if response.status_code in TRANSIENT:
                why = f"{response.status_code}: {response.text[:500]}"
                raise TransientError(why, response)
            return accepted(response)

        patience_s = self._retry_s if retry_s is None else retry_s
        return self._again(attempt, patience_s, ApiUnavailableError)

    def _again(
        self, attempt: Callable[[], T], retry_s: float, unanswered: type[ApiUnavailableError]
    ) -> T:
        return retry(
            attempt,
            retry_s,
            self._closing,
            lambda why: unanswered(f"The API at {self.endpoint} does not answer: {why}"),
        )


def _address(endpoint: str) -> str:
    """Return the API's address, without the path that every request adds to it."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigurationError(
            f"{endpoint!r} is no address of an API; write it like http://127.0.0.1:8020"
        )
    return endpoint.rstrip("/").removesuffix("/api")


def _objection(reply: requests.Response | None) -> str | None:
    """Return why a login was refused; None: it was not, or nobody tried."""
    if reply is None or reply.status_code not in _LOGIN_REFUSED:
        return None
    try:
        return str(reply.json()["message"])
    except (ValueError, KeyError, TypeError):  # not by the API, but by what stands before it
        return f"{reply.status_code}"


def parsed(response: requests.Response, kind: type[M]) -> M:
    """Read an answer as a message. Raises `ApiUnavailableError` for anything else."""
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        # For instance a proxy's error page, or an incompatible version.
        raise ApiUnavailableError(f"What answers is not the API: {error}") from error


def one_each(answers: list[T], asked: Sequence[object]) -> list[T]:
    """Return answers, after checking that there is one for each question."""
    if len(answers) != len(asked):
        raise ApiUnavailableError(f"The API gave {len(answers)} answers to {len(asked)} questions.")
    return answers


def accepted(response: requests.Response) -> requests.Response:
    """Return a successful response. Raises `RefusedError` for any other."""
    if response.status_code < 400:
        return response
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = response.text[:500]
    raise RefusedError(f"The API refused ({response.status_code}): {message}", response)
