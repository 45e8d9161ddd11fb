"""Setting up an engine's data directory: choices that are made once and kept."""

from __future__ import annotations

from typing import Literal

from job_engine.cli.checks import port_is_free, sandbox_refusal
from job_engine.cli.local_engine import EngineConfig, LocalEngine, new_engine_id
from job_engine.errors import ConfigurationError, SandboxRefusedError
from job_engine.queue.local import free_port
from job_engine.settings import UpSettings

BASE_IMAGE = "job-engine-base"


def configure(engine: LocalEngine, settings: UpSettings) -> EngineConfig:
    """Return the engine's configuration: the stored one, or a new one, which is stored.

    Raises `ConfigurationError` when the settings contradict what is on disk or a port is
    taken, `SandboxRefusedError` when no sandbox (or not the chosen one) is usable.
    """
    known = engine.config()
    sandbox, reason = _sandbox(known, settings, engine)
    config = EngineConfig(
        engine_id=known.engine_id if known else new_engine_id(),
        sandbox=sandbox,
        sandbox_reason=reason,
        default_image=_image(known, settings, sandbox),
        api_port=_port(known, settings),
        zookeeper_port=_zookeeper_port(known, settings),
    )
    if config != known:
        engine.save_config(config)
    return config


def _sandbox(
    known: EngineConfig | None, settings: UpSettings, engine: LocalEngine
) -> tuple[Literal["docker", "bubblewrap", "none"], str]:
    if known is None:
        return choose_sandbox(settings.sandbox)
    if settings.sandbox not in (None, known.sandbox):
        raise ConfigurationError(
            f"This engine was set up with the sandbox {known.sandbox}, and an engine does not "
            f"change it. For {settings.sandbox}, set up another with --data-dir, or edit "
            f"{engine.config_file} while it is stopped."
        )
    if known.sandbox != "none":
        refusal = sandbox_refusal(known.sandbox)
        if refusal:
            raise SandboxRefusedError(
                f"This engine was set up with the sandbox {known.sandbox}, which cannot be used "
                f"now: {refusal}"
            )
    return known.sandbox, known.sandbox_reason


def choose_sandbox(
    wanted: Literal["docker", "bubblewrap", "none"] | None,
) -> tuple[Literal["docker", "bubblewrap", "none"], str]:
    """Return a backend that works here, and why it was chosen.

    Raises `SandboxRefusedError`, with what to do, when there is none.
    """
    if wanted == "none":
        return "none", "asked for: this engine grades nothing"
    if wanted is not None:
        refusal = sandbox_refusal(wanted)
        if refusal:
            raise SandboxRefusedError(f"The sandbox {wanted} cannot be used here: {refusal}")
        return wanted, "asked for when this engine was set up"
    no_docker = sandbox_refusal("docker")
    if no_docker is None:
        return "docker", "a Docker daemon answered when this engine was set up"
    no_bubblewrap = sandbox_refusal("bubblewrap")
    if no_bubblewrap is None:
        return "bubblewrap", "no Docker daemon answered when this engine was set up"
    raise SandboxRefusedError(
        "No sandbox can be used here, and nothing is graded without one.\n"
        f"  docker:     {no_docker}\n"
        f"  bubblewrap: {no_bubblewrap}\n"
        "`job-engine doctor` says what to install or allow. `--sandbox none` runs an engine "
        "for actions that need none."
    )


def _image(
    known: EngineConfig | None,
    settings: UpSettings,
    sandbox: Literal["docker", "bubblewrap", "none"],
) -> str | None:
    if settings.default_image:
        return settings.default_image
    if known is not None and known.default_image:
        return known.default_image
    return local_base_image() if sandbox == "docker" else None


def local_base_image() -> str | None:
    """Return the image that `scripts/build-base-image` made on this host, if it did."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env()
        try:
            images = client.images.list(name=BASE_IMAGE)
        finally:
            client.close()
    except DockerException:
        return None
    tags = sorted(tag for image in images for tag in image.tags)
    return tags[0] if tags else None


def _port(known: EngineConfig | None, settings: UpSettings) -> int:
    if settings.port:
        if not port_is_free(settings.host, settings.port):
            raise ConfigurationError(
                f"Port {settings.port} of {settings.host} is in use. Choose another with --port; "
                "--port 0 takes a free one."
            )
        return settings.port
    if known and port_is_free(settings.host, known.api_port):
        return known.api_port
    return free_port()


def _zookeeper_port(known: EngineConfig | None, settings: UpSettings) -> int | None:
    if not settings.zookeeper:
        return known.zookeeper_port if known else None
    if known and known.zookeeper_port and port_is_free("127.0.0.1", known.zookeeper_port):
        return known.zookeeper_port
    return free_port()
