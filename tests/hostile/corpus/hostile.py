"""Travels with every hostile program: tries what is forbidden, and says how that went.

What worked is told as `ESCAPED`, the word that the corpus looks for. Whoever asks for
less than a signal or a limit ends with exit code 0.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = Path(__file__).with_name("name").read_text() if Path(__file__).exists() else ""
PORTS = (80, 9999)
DATAGRAM_PORTS = (53, 9999)
TIMEOUT_S = 0.3

libc = ctypes.CDLL(None, use_errno=True)


def tell(*words: object) -> None:
    """Print at once, as the program may not live to flush."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def syscall(number: int, *arguments: Any) -> int:
    """Make a system call; raises `OSError`."""
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def attempt(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Do what must not work, and tell whether it did; returns what it returned."""
    try:
        result = function(*arguments)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or 0
        tell("refused", what, errno.errorcode.get(number, error))
        return None
    tell("ESCAPED", what, repr(result)[:200])
    return result


def connect(host: str, port: int) -> None:
    """Connect by TCP and say who it is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as stream:
        stream.settimeout(TIMEOUT_S)
        stream.connect((host, port))
        stream.sendall(NAME.encode())


def datagram(host: str, port: int, data: bytes = b"") -> None:
    """Send by UDP who it is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(data or NAME.encode(), (host, port))


def read(path: str) -> str:
    """Read the beginning of a file."""
    with open(path, "rb") as file:
        return file.read(200).decode(errors="replace")


def write(path: str, text: str) -> None:
    """Write a file that is there."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
