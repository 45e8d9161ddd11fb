"""What an operator can say about grading; a further class beside those of `job_engine.settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from job_engine.settings import Settings


class GradingSettings(Settings):
    """Where bundles are cached, which flavours there are, and what submissions may hold."""

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
        "(`host:port`), `username`, `password`; readable by its owner only.",
    )
    flavours: dict[str, dict[str, Any]] = Field(
        {},
        description="Named limits, added to or changing the built-in small, standard and large: "
        "`{large: {memory_bytes: 4294967296}}`.",
    )


def grading_settings(settings: object) -> GradingSettings:
    """Return the grading settings that a process was started with.

    They are part of `settings` where its class inherits them; else they come from the
    environment and the configuration file.
    """
    return settings if isinstance(settings, GradingSettings) else GradingSettings()
