"""Where webhooks may go: no URL that leads to a private place, however it is written."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from job_engine.errors import ConfigurationError, DestinationRefusedError
from job_engine.webhooks import Destination, DestinationPolicy

PUBLIC = DestinationPolicy(allow_http=True)


def resolving_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have every name resolve to the answers, one after the other; returns who was asked for."""
    asked: list[str] = []

    def answer(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        return [(0, 0, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://lms.example.org/hooks?a=1", "lms.example.org", 443, "/hooks?a=1"),
        ("https://LMS.Example.ORG.", "lms.example.org", 443, "/"),
        ("http://lms:8080/x", "lms", 8080, "/x"),
        ("https://[2001:db8::1]:8443/", "2001:db8::1", 8443, "/"),
        ("https://192.0.2.7/", "192.0.2.7", 443, "/"),
    ],
)
def test_urls(url: str, host: str, port: int, path: str) -> None:
    found = Destination.parse(url)
    assert (found.host, found.port, found.path) == (host, port, path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "lms.example.org",
        "//lms.example.org/",
        "ftp://lms.example.org/",
        "file:///etc/passwd",
        "https:///path",
        "https://user:password@lms.example.org/",
        "https://lms.example.org\\@127.0.0.1/",
        "https://lms.example.org/#part",
        "https://lms.example.org/a b",
        "https://lms.example.org/\r\nX: y",
        "https://lms.example.org:0/",
        "https://lms.example.org:99999/",
        "https://lms.example.org:x/",
        "https://lms..example.org/",
        "https://[::1/",
        "https://%6c%6fcalhost/",
        "https://bücher.example/",
        "https://lms.example.org/" + "x" * 2048,
    ],
)
def test_urls_that_will_not_do(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Destination.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.8.9.10/",
        "http://localhost/",
        "http://2130706433/",  # 127.0.0.1 as one number
        "http://0x7f.1/",
        "http://017700000001/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.0.1/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://224.0.0.1/",
        "http://240.0.0.1/",
        "http://255.255.255.255/",
        "http://192.0.2.1/",
        "http://198.18.0.1/",
        "http://[::1]/",
        "http://[::]/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://[2001:db8::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://168.63.129.16/",
    ],
)
def test_addresses_that_are_nobody_elses(url: str) -> None:
    try:
        addresses = PUBLIC.addresses(Destination.parse(url))
    except (DestinationRefusedError, OSError):  # one that does not resolve is no way in either
        return
    pytest.fail(f"let through to {addresses}")


def test_public_addresses_are_let_through() -> None:
    assert PUBLIC.addresses(Destination.parse("http://8.8.8.8/")) == ["8.8.8.8"]


def test_one_private_address_spoils_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving_to(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(DestinationRefusedError, match="private or special"):
        PUBLIC.addresses(Destination.parse("http://lms.example.org/"))


def test_the_operator_names_pairs_of_host_and_port(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving_to(monkeypatch, ["10.0.0.1"])
    policy = DestinationPolicy(allow_http=True, allow_private_hosts=["LMS.internal:8080"])
    assert policy.addresses(Destination.parse("http://lms.internal:8080/x")) == ["10.0.0.1"]
    for url in ("http://lms.internal/x", "http://other.internal:8080/x"):
        with pytest.raises(DestinationRefusedError):
            policy.addresses(Destination.parse(url))
    with pytest.raises(ConfigurationError, match="host:port"):
        DestinationPolicy(allow_http=True, allow_private_hosts=["lms.internal"])


def test_plain_http_is_the_operators_to_allow() -> None:
    with pytest.raises(DestinationRefusedError, match="https"):
        DestinationPolicy(allow_http=False).addresses(Destination.parse("http://8.8.8.8/"))
