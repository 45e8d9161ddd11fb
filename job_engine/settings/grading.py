"""Settings of grading: caches, flavours, and limits for submissions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from job_engine.settings.base import Settings


class GradingSettings(Settings):
    """Settings of the bundle cache, of flavours, setups and shards, and limits for submissions."""

    bundle_cache_dir: Path = Field(
        Path("/var/cache/job-engine/bundles"),
        description="Directory of the cache of assignment bundles; made on first use, "
        "readable by its owner only.",
    )
    bundle_cache_bytes: int = Field(
        2 * 2**30, gt=0, description="Most bytes that cached bundles may take together."
    )
    max_bundle_bytes: int = Field(
        512 * 2**20, gt=0, description="Most bytes that an assignment bundle may unpack to."
    )
    max_submission_bytes: int = Field(
        256 * 2**20, gt=0, description="Most bytes that a submission may unpack to."
    )
    max_submission_files: int = Field(
        10_000, gt=0, description="Most files and directories of a submission."
    )
    clone_image: str | None = Field(
        None, description="Image that has git, for the clone phase; unset: as the other phases."
    )
    git_secrets_file: Path | None = Field(
        None,
        description="YAML file of credentials for private repositories, by name: `host` "
        "(`host:port`), `path` (only for repositories below it), `username`, `password`; "
        "readable by its owner only. Every submitter may name any of them.",
    )
    setup_hosts: list[Annotated[str, StringConstraints(pattern=r"^[^:/\s]+:[0-9]{1,5}$")]] = Field(
        [],
        description="`host:port` that the setup scripts of assignments may reach, such as mirrors "
        "of packages, through the egress proxy; unset: none.",
    )
    setup_env: dict[str, str] = Field(
        {},
        description="Environment of setup scripts, such as `{PIP_INDEX_URL: …}`.",
    )
    kept_roots_bytes: int = Field(
        10 * 2**30,
        gt=0,
        description="Most bytes of all root file systems that setup scripts made; the least "
        "recently used ones are deleted, and made again when they are needed.",
    )
    shards_at_once: int = Field(
        2,
        gt=0,
        le=16,
        description="Most shards of one submission's tests that run side by side, beside what the "
        "executor's other threads run.",
    )
    command_images: list[str] = Field(
        [],
        description="Images that `run_command` jobs may name. Otherwise every submitter could "
        "read all images of the host, and have it pull from anywhere.",
    )
    flavours: dict[str, dict[str, Any]] = Field(
        {},
        description="Named limits, added to or changing the built-in small, standard and large: "
        "`{large: {memory_bytes: 4294967296}}`.",
    )
