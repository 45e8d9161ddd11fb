"""`job-engine login` and `logout`: an API key, stored for later commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from job_engine.cli.connection import (
    ApiUrl,
    Target,
    find_target,
    forget_login,
    keep_login,
    open_api,
)
from job_engine.cli.exits import errors_as_exits
from job_engine.cli.up.admin import make_key
from job_engine.errors import ApiError, ApiUnavailableError


def login(
    user: Annotated[str, typer.Option("--user", "-u", help="Who you are.")],
    api_url: ApiUrl = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Log in with a password, and keep an API key.

    It is kept in ~/.config/job-engine/login.json, readable by you only.
    """
    with errors_as_exits():
        target = find_target(api_url, None)
        password = read_password("Password", confirm=False, from_stdin=password_stdin)
        api = open_api(Target(target.api_url, None, None, target.insecure))
        try:
            file = keep_login(target.api_url, make_key(api, user, password))
        finally:
            api.close()
    print(f"Logged in to {target.api_url} as {user}. The key is in {file}.")


def logout() -> None:
    """Forget the kept key, here and at the engine."""
    with errors_as_exits():
        kept = forget_login()
        if kept is None:
            print("You were not logged in.")
            return
        try:
            api = open_api(
                Target(kept["url"], {"key": kept["key"], "secret": kept["secret"]}, None)
            )
            api.delete(kept["key"])
            api.close()
        except ApiUnavailableError:
            print(f"{kept['url']} does not answer: the key is forgotten here only.")
            return
        except ApiError:
            print(f"{kept['url']} did not know the key any more: it is forgotten here too.")
            return
    print(f"Logged out of {kept['url']}.")


def read_password(prompt: str, *, confirm: bool, from_stdin: bool) -> str:
    """Ask for a password without showing it, or read one line."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    answer: str = typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return answer
