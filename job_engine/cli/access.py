"""`job-engine user` and `job-engine credential`: who may log in, and as what."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from job_engine.api.identity import DISTRIBUTOR, EXECUTOR, STUDENT, SUBMITTER, TEACHER
from job_engine.cli.connection import ApiUrl, AsJson, DataDir, connected
from job_engine.cli.local_engine import save_secret
from job_engine.cli.login import read_password
from job_engine.cli.text import age, clean, console, cut, one_line, print_json, table
from job_engine.cli.up.admin import API_KEY_TEMPLATE
from job_engine.model.acl import ADMIN
from job_engine.model.timestamps import parse_ms

users = typer.Typer(no_args_is_help=True, help="People who log in with a password.")
credentials = typer.Typer(no_args_is_help=True, help="API keys for programs.")


class Role(StrEnum):
    """A role of a user or an API key."""

    SUBMITTER = "submitter"
    """Create jobs, and see all of their own."""
    STUDENT = "student"
    """Hand in their own work, and see what is shown of its results."""
    TEACHER = "teacher"
    """Publish assignments."""
    EXECUTOR = "executor"
    """Claim jobs and report on them."""
    DISTRIBUTOR = "distributor"
    """Push jobs into the queue."""
    ADMIN = "admin"
    """Everything."""


GROUPS = {
    Role.SUBMITTER: SUBMITTER,
    Role.STUDENT: STUDENT,
    Role.TEACHER: TEACHER,
    Role.EXECUTOR: EXECUTOR,
    Role.DISTRIBUTOR: DISTRIBUTOR,
    Role.ADMIN: ADMIN,
}

Roles = Annotated[
    list[Role],
    typer.Option(
        "--role",
        metavar="ROLE",
        help="submitter creates jobs, student hands in their own work, teacher publishes "
        "assignments, executor and distributor are for these services, admin may do everything; "
        "repeatable.",
    ),
]


@users.command("add")
def add_user(
    name: Annotated[str, typer.Argument(help="The name to log in with.")],
    role: Roles,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Add a user. For admins."""
    with connected(api_url, data_dir) as api:
        password = read_password(f"Password of {name}", confirm=True, from_stdin=password_stdin)
        template = {
            "href": "user-template/username-password",
            "username": name,
            "password": password,
            "roles": _groups(role),
        }
        made = api.add("user", {"template": template})
    print(f"{name} is {made.data['resource-id']}")


@credentials.command("add")
def add_credential(
    role: Roles,
    name: Annotated[str | None, typer.Option("--name", help="What it is for.")] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, help="Days until it expires; default: never.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write it to this file, readable by you only; default: print it."
        ),
    ] = None,
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Make an API key. Its secret is shown once, here, and kept nowhere else.

    The file is what JOB_ENGINE_CREDENTIALS_FILE of an executor or distributor names.
    """
    with connected(api_url, data_dir) as api:
        template = {"href": API_KEY_TEMPLATE, "roles": _groups(role)}
        body = {"template": {**template, "ttl": days * 86_400} if days else template}
        made = api.add("credential", {**body, "name": name} if name else body).data
    key = {"key": made["resource-id"], "secret": made["secret-key"]}
    if output is None:
        print_json(key)
        return
    save_secret(output.absolute(), key)
    print(f"{key['key']} is in {output}")


@credentials.command("list")
def list_credentials(
    api_url: ApiUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show the API keys that you may see, the newest first."""
    with connected(api_url, data_dir) as api:
        found = api.search("credential", orderby="created:desc", last=10_000).resources
    keys = [resource.data for resource in found]
    if as_json:
        print_json(keys)
        return
    now_ms = time.time() * 1000
    shown = table("ID", "AGE", "EXPIRES", "ROLES", "NAME")
    for key in keys:
        expiry = key.get("expiry")
        shown.add_row(
            clean(key["id"].removeprefix("credential/")),
            age((now_ms - parse_ms(key["created"])) / 1000),
            _expires(parse_ms(expiry) - now_ms) if expiry else "never",
            _roles(key["claims"]["roles"]),
            cut(one_line(key.get("name", ""))),
        )
    console().print(shown)


@credentials.command("revoke")
def revoke_credentials(
    keys: Annotated[list[str], typer.Argument(metavar="KEY…", help="As `credential list` says.")],
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Revoke API keys: they, and the sessions that rest on them, end with the next request."""
    with connected(api_url, data_dir) as api:
        for key in keys:
            full = key if key.startswith("credential/") else f"credential/{key}"
            api.delete(full)
            print(f"{full} is revoked")


def _expires(left_ms: float) -> str:
    return "expired" if left_ms <= 0 else f"in {age(left_ms / 1000)}"


def _roles(claims: list[str]) -> str:
    """Name the roles among a key's claims as `--role` does; of others, only their groups."""
    names = {group: role.value for role, group in GROUPS.items()}
    return ", ".join(names[claim] for claim in claims if claim in names) or "none"


def _groups(roles: list[Role]) -> list[str]:
    return sorted({GROUPS[role] for role in roles})
