"""Settings of ZooKeeper's security that could never work are refused before anything connects."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from job_engine.errors import ConfigurationError
from job_engine.queue.security import client_arguments
from job_engine.settings import ZooKeeperAccess


def test_nothing_is_asked_of_kazoo_where_nothing_is_set() -> None:
    assert client_arguments(ZooKeeperAccess()) == {}


def test_tls_checks_the_certificate_and_the_host(tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    arguments = client_arguments(
        ZooKeeperAccess(
            zk_tls=True,
            zk_tls_ca=tmp_path / "ca.pem",
            zk_tls_cert=tmp_path / "cert.pem",
            zk_tls_key=tmp_path / "key.pem",
            zk_tls_key_password=SecretStr("sesame"),
        )
    )
    assert arguments == {
        "use_ssl": True,
        "verify_certs": True,
        "check_hostname": True,
        "ca": str(tmp_path / "ca.pem"),
        "certfile": str(tmp_path / "cert.pem"),
        "keyfile": str(tmp_path / "key.pem"),
        "keyfile_password": "sesame",
    }


@pytest.mark.parametrize(
    "settings",
    [
        ZooKeeperAccess(zk_auth=SecretStr("engine")),
        ZooKeeperAccess(zk_auth=SecretStr(":sesame")),
        # Half a pair, a file that is not there, and files without the switch.
        ZooKeeperAccess(zk_tls=True, zk_tls_cert=Path(__file__)),
        ZooKeeperAccess(zk_tls=True, zk_tls_ca=Path("/nonexistent")),
        ZooKeeperAccess(zk_tls_ca=Path(__file__)),
    ],
)
def test_impossible_settings_are_refused(settings: ZooKeeperAccess) -> None:
    with pytest.raises(ConfigurationError):
        client_arguments(settings)


def test_no_secret_is_shown() -> None:
    settings = ZooKeeperAccess(
        zk_auth=SecretStr("engine:sesame"), zk_tls_key_password=SecretStr("sesame")
    )
    assert "sesame" not in repr(settings)
