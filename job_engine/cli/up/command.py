"""`job-engine up`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from job_engine.cli.local_engine import EngineConfig, LocalEngine, RunInfo
from job_engine.cli.up.admin import FirstPassword, first_password, keep_key
from job_engine.cli.up.child import Child, Output
from job_engine.cli.up.curl import let_curl_in
from job_engine.cli.up.setup import configure
from job_engine.cli.up.supervisor import Stopped, Supervisor
from job_engine.cli.zookeeper import zookeeper_client
from job_engine.client import Api
from job_engine.errors import ApiError, ConfigurationError, QueueError
from job_engine.log import configure as configure_log
from job_engine.queue.fleet import list_executors
from job_engine.queue.local import LocalZooKeeper
from job_engine.settings import STOP_GRACE_S, UpSettings, ZooKeeperAccess, unknown_variables

START_TIMEOUT_S = 60.0
SERVICE_STOP_TIMEOUT_S = 1.5 * STOP_GRACE_S


def up(settings: UpSettings) -> None:
    """Run a whole engine until a signal comes."""
    configure_log(settings.log_level, settings.log_format)
    engine = LocalEngine(settings.data_dir)
    # The children of a killed engine end with it, as if they had been asked to stop.
    with engine.locked(settings.drain_s + SERVICE_STOP_TIMEOUT_S) as lock:
        engine.forget_running()  # of one that was killed
        config = configure(engine, settings)
        Up(engine, config, settings, lock).run()


class Up:
    """One run of one engine; its children inherit the `lock` of its directory."""

    def __init__(
        self, engine: LocalEngine, config: EngineConfig, settings: UpSettings, lock: int
    ) -> None:
        self._engine = engine
        self._config = config
        self._settings = settings
        self._holds = (lock,)
        self._output = Output()
        self._supervisor = Supervisor(self._output)
        self._api_url = f"http://{_bracketed(settings.host)}:{config.api_port}"
        self._zk_hosts = settings.zk_hosts
        self._executors = [
            f"{platform.node().split('.')[0]}-{config.engine_id}-{number}"
            for number in range(1, settings.executors + 1)
        ]

    def run(self) -> None:
        """Start everything, say that it is ready, keep it running, stop everything."""
        hint = ""
        with self._supervisor.signals():
            try:
                password = self._start()
                self._ready(password)
                hint = " (Again: give running jobs back without waiting.)"
                self._supervisor.run()
            except Stopped:
                pass
            finally:
                self._output.say(f"Stopping.{hint}")
                self._engine.forget_running()
                self._supervisor.stop()
                self._output.say("Stopped.")

    def _start(self) -> FirstPassword | None:
        if self._settings.zookeeper:
            self._output.say("Starting ZooKeeper")
            self._supervisor.start_zookeeper(self._zookeeper())
        else:
            prepare_zookeeper(self._zk_hosts, self._settings)
        given = self._settings.admin_password
        password = first_password(self._engine, given.get_secret_value() if given else None)
        self._output.say("Starting the API")
        api = Api(self._api_url)
        try:
            self._supervisor.start([self._api(password)], api.ready, START_TIMEOUT_S)
        finally:
            api.close()
        if password is not None:
            keep_key(self._engine, self._api_url, password)
        self._let_curl_in()
        self._output.say(f"Starting a distributor and {_count(len(self._executors), 'executor')}")
        self._supervisor.start([self._distributor()], lambda: True, START_TIMEOUT_S)
        self._supervisor.start(
            [self._executor(name) for name in self._executors],
            self._executors_ready(),
            START_TIMEOUT_S,
        )
        self._engine.save_running(
            RunInfo(pid=os.getpid(), api_url=self._api_url, zk_hosts=self._zk_hosts)
        )
        return password

    def _let_curl_in(self) -> None:
        try:
            let_curl_in(self._engine, self._api_url)
        except ApiError as error:  # the keys were revoked, and nothing else needs them
            self._output.say(f"No login for curl: {error.message}")

    def _zookeeper(self) -> LocalZooKeeper:
        server = LocalZooKeeper(
            self._engine.data_dir / "zookeeper",
            self._config.zookeeper_port or 0,
            home=self._settings.zookeeper_home,
            holds=self._holds,
        )
        self._zk_hosts = server.hosts
        return server

    def _api(self, password: FirstPassword | None) -> Child:
        environment = {
            "DATA_DIR": str(self._engine.data_dir),
            "CREDENTIALS_DIR": str(self._engine.credentials_dir),
            "HOST": self._settings.host,
            "PORT": str(self._config.api_port),
        }
        if password is not None:
            environment["ADMIN_PASSWORD"] = password.value
        return self._child("api", [sys.executable, "-m", "job_engine.api"], environment)

    def _distributor(self) -> Child:
        name = f"{platform.node().split('.')[0]}-{self._config.engine_id}"
        environment = {**self._service("distributor"), "NAME": name}
        return self._child("distributor", [_script("job-distributor")], environment)

    def _executor(self, name: str) -> Child:
        environment = {
            **self._service("executor"),
            "NAME": name,
            "SCRATCH_DIR": str(self._engine.data_dir / "scratch"),
            "BUNDLE_CACHE_DIR": str(self._engine.data_dir / "bundles"),
            "DRAIN_S": str(self._settings.drain_s),
        }
        if self._config.sandbox != "none":
            environment["SANDBOX"] = self._config.sandbox
        if self._config.default_image:
            environment["DEFAULT_IMAGE"] = self._config.default_image
        if self._settings.actions_dir:
            environment["ACTIONS_DIR"] = str(self._settings.actions_dir.absolute())
        if self._settings.threads:
            environment["THREADS"] = str(self._settings.threads)
        return self._child(
            f"executor-{name.rpartition('-')[2]}",
            [_script("job-executor")],
            environment,
            stop_timeout_s=self._settings.drain_s + SERVICE_STOP_TIMEOUT_S,
            finishes=True,
        )

    def _service(self, who: str) -> dict[str, str]:
        return {
            "API_URL": self._api_url,
            "CREDENTIALS_FILE": str(self._engine.credentials_file(who)),
            "ZK_HOSTS": self._zk_hosts,
            **self._tls(),
        }

    def _tls(self) -> dict[str, str]:
        """Return the TLS settings that may be flags; secrets are in the environment already."""
        given = {
            "ZK_TLS": self._settings.zk_tls or None,
            "ZK_TLS_CA": self._settings.zk_tls_ca,
            "ZK_TLS_CERT": self._settings.zk_tls_cert,
            "ZK_TLS_KEY": self._settings.zk_tls_key,
        }
        return {name: str(value) for name, value in given.items() if value is not None}

    def _child(
        self,
        name: str,
        command: list[str],
        ours: dict[str, str],
        *,
        stop_timeout_s: float = SERVICE_STOP_TIMEOUT_S,
        finishes: bool = False,
    ) -> Child:
        return Child(
            name,
            command,
            child_environment(ours, self._settings),
            self._output,
            stop_timeout_s=stop_timeout_s,
            finishes=finishes,
            holds=self._holds,
        )

    def _executors_ready(self) -> Callable[[], bool]:
        """Return a check whether every executor is registered in ZooKeeper."""
        wanted = set(self._executors)

        def ready() -> bool:
            try:
                with zookeeper_client(self._zk_hosts, self._settings) as client:
                    return wanted <= {executor.name for executor in list_executors(client)}
            except QueueError:
                return False

        return ready if wanted else lambda: True

    def _ready(self, password: FirstPassword | None) -> None:
        lines = [
            "",
            "The engine is ready.",
            f"  API        {self._api_url}",
            f"  Data       {self._engine.data_dir}",
            f"  ZooKeeper  {self._zk_hosts}{'' if self._settings.zookeeper else ' (not ours)'}",
            f"  Executors  {', '.join(self._executors) or 'none'}",
            f"  Sandbox    {self._config.sandbox}: {self._config.sandbox_reason}",
            *self._image_lines(),
            *_password_lines(password),
            f"  Try        job-engine executor list{self._data_dir_flag()}",
            f"  curl       curl --config {self._engine.curl_file} {self._api_url}/api/job",
            "  Stop       Ctrl-C, or SIGTERM to this process: running jobs may finish first",
            "",
        ]
        self._output.say("\n".join(lines))

    def _image_lines(self) -> list[str]:
        if self._config.default_image:
            return [f"  Image      {self._config.default_image}"]
        if self._config.sandbox == "docker":
            return [
                "  Image      none by default: assignments have to name one. "
                "scripts/build-base-image makes one without a registry"
            ]
        return []

    def _data_dir_flag(self) -> str:
        default = LocalEngine(UpSettings.model_fields["data_dir"].default).data_dir
        return "" if self._engine.data_dir == default else f" --data-dir {self._engine.data_dir}"


def child_environment(ours: dict[str, str], settings: UpSettings) -> dict[str, str]:
    """Return a child's environment: the operator's own, overridden by `up`."""
    # These have another meaning for a child, or none.
    for_up_only = {"ADMIN_PASSWORD", "SANDBOX", "THREADS", "NAME", "PORT", "HOST", "DATA_DIR"}
    prefix = settings.model_config["env_prefix"]
    _, others = unknown_variables()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name.removeprefix(prefix) not in for_up_only or not name.startswith(prefix)
        if name not in others  # warned of already
    }
    ours = {"LOG_LEVEL": settings.log_level, "LOG_FORMAT": settings.log_format, **ours}
    return {
        **inherited,
        "PYTHONUNBUFFERED": "1",
        **{f"{prefix}{name}": value for name, value in ours.items()},
    }


def prepare_zookeeper(hosts: str, access: ZooKeeperAccess) -> None:
    """Create the chroot in `hosts`, if there is one, because kazoo does not.

    Raises `QueueError` when no ZooKeeper answers there.
    """
    servers, _, chroot = hosts.partition("/")
    with zookeeper_client(servers, access) as client:
        client.ensure_path(f"/{chroot}")


def _password_lines(password: FirstPassword | None) -> list[str]:
    if password is None:
        return ["  Login      admin, with the password that the first start printed"]
    if not password.chosen_here:
        return ["  Login      admin, with the password in JOB_ENGINE_ADMIN_PASSWORD"]
    return [f"  Login      admin, password {password.value}  (shown this once; keep it)"]


def _script(name: str) -> str:
    """Return the console script that was installed next to this one."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise ConfigurationError(f"{path} is missing: install the project again (pip install .).")
    return str(path)


def _bracketed(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
