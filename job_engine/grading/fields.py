"""The base model and the fields of assignments and payloads; errors are for their authors."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from job_engine.sandbox.base import KEPT_PREFIX

_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REACH: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):([0-9]{1,5})")
_SYSTEM: Final = ("/proc", "/dev", "/sys", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64")


class StrictModel(BaseModel):
    """A model that takes no unknown key, and does not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _command(value: str | list[str]) -> str | list[str]:
    if not value or (isinstance(value, list) and not value[0]):
        raise ValueError("a command must not be empty")
    if any("\0" in word for word in ([value] if isinstance(value, str) else value)):
        raise ValueError("a command must not hold NUL")
    return value


def _reach(value: str) -> str:
    match = _REACH.fullmatch(value)
    if not match or not 0 < int(match[3]) < 65_536:
        raise ValueError("write it as host:port, such as pypi.org:443")
    return value


def _relative(value: str) -> str:
    if value.startswith("/") or "\0" in value or ".." in value.split("/") or not value:
        raise ValueError("a relative path without '..' is needed")
    return value


def _target(value: str) -> str:
    if not value.startswith("/") or posixpath.normpath(value) != value or value == "/":
        raise ValueError("a plain absolute path is needed, such as /mnt/tests")
    if any(value == place or value.startswith(f"{place}/") for place in _SYSTEM):
        raise ValueError("it would cover a directory of the system; use one under /mnt")
    return value


def _image(value: str) -> str:
    if value.startswith(KEPT_PREFIX):
        # The image of another assignment's setup, which contains that one's tests.
        raise ValueError(f"no image's name may begin with {KEPT_PREFIX}")
    return value


def _env_name(value: str) -> str:
    if not _ENV_NAME.fullmatch(value):
        raise ValueError("names of variables have letters, digits and '_' only")
    return value


Command = Annotated[str | list[str], AfterValidator(_command)]
ReachText = Annotated[str, AfterValidator(_reach)]
RelativePath = Annotated[str, StringConstraints(max_length=512), AfterValidator(_relative)]
Target = Annotated[str, StringConstraints(max_length=256), AfterValidator(_target)]
ImageName = Annotated[str, StringConstraints(max_length=512), AfterValidator(_image)]
EnvName = Annotated[str, AfterValidator(_env_name)]


def argv(command: str | list[str]) -> tuple[str, ...]:
    """Return a command as words: text is for the shell, a list is as it is."""
    return ("sh", "-c", command) if isinstance(command, str) else tuple(command)
