"""Which addresses are everybody's."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from job_engine.addresses import is_public, resolve, split_pair


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("172.17.0.1", False),
        ("192.168.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00::2", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("::7f00:1", False),
        ("168.63.129.16", False),  # Azure's service for its virtual machines
        ("::ffff:168.63.129.16", False),
        ("192.0.0.192", False),  # Oracle's
        ("100.100.100.200", False),  # Alibaba's
        ("fd00:ec2::254", False),  # Amazon's
        ("fec0::1", False),  # of a site, as there were before fc00::/7
        ("3fff::1", False),
        ("192.88.99.1", False),
        ("64:ff9b:1::a00:1", False),
    ],
)
def test_is_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_this_machines_own_public_address_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "job_engine.addresses._own_addresses", lambda: {ipaddress.ip_address("8.8.8.8")}
    )
    assert not is_public("8.8.8.8")
    assert not is_public("::ffff:8.8.8.8")


def test_names_that_cannot_be() -> None:
    with pytest.raises(OSError, match="no possible name"):
        resolve("a" * 64 + ".example", 80)
    assert resolve("127.0.0.1", 80) == [socket.inet_ntoa(b"\x7f\0\0\1")]


def test_pairs_that_operators_write() -> None:
    assert split_pair("[::1]:80") == ("::1", 80)
    assert split_pair("LMS.Example.:8443") == ("lms.example", 8443)
    with pytest.raises(ValueError, match="host:port"):
        split_pair("lms.example")
