"""Whose word is taken for who sends a request."""

from __future__ import annotations

import pytest

from job_engine.api.identity import Peers
from job_engine.errors import ConfigurationError


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("::ffff:127.0.0.1", True),
        ("10.1.255.3", True),
        ("10.2.0.1", False),
        ("fd00::7", True),
        ("fd00::7%eth0", True),
        ("fd01::7", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_addresses_and_networks(address: str, trusted: bool) -> None:
    peers = Peers(["127.0.0.1", "10.1.0.0/16", "fd00::/16"])
    assert (address in peers) is trusted


def test_by_default_nobody_is_trusted() -> None:
    assert "127.0.0.1" not in Peers([])


@pytest.mark.parametrize("name", ["localhost", "10.1.2.3/16", "*", ""])
def test_an_invalid_address_is_a_configuration_error(name: str) -> None:
    with pytest.raises(ConfigurationError, match="trusted_peers"):
        Peers([name])
