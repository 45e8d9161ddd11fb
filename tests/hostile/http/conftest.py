"""The seed of malformed requests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run be played again."""
    parser.addoption("--seed", type=int, help="seed of tests/hostile/http/test_malformed.py")
