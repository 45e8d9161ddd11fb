"""Flavours: named sets of limits, so that an assignment asks for a size and not for numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Self

from pydantic import ByteSize, Field, ValidationError

from job_engine.errors import ConfigurationError
from job_engine.grading.fields import StrictModel
from job_engine.sandbox.base import Limits, Tree

MIB: Final = 2**20


class LimitOverrides(StrictModel):
    """Limits that an assignment, a phase or an operator sets; None leaves them as they are.

    Sizes are bytes, as a number or as text with a unit (`256MiB`). Times are seconds.
    """

    cpus: float | None = Field(None, gt=0, allow_inf_nan=False)
    cpu_time_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    wall_time_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    memory_bytes: ByteSize | None = Field(None, gt=0)
    processes: int | None = Field(None, gt=0)
    file_size_bytes: ByteSize | None = Field(None, gt=0)
    output_bytes: ByteSize | None = Field(None, gt=0)

    def changes(self) -> dict[str, Any]:
        """Return the values that are set, as numbers by field of `Limits` (and of `Flavour`)."""
        return {
            name: int(value) if isinstance(value, ByteSize) else value
            for name, value in self.model_dump().items()
            if value is not None
        }


class FlavourOverrides(LimitOverrides):
    """Changes to a flavour: the limits of a phase, and of the slot's file systems."""

    disk_bytes: ByteSize | None = Field(None, gt=0)
    inodes: int | None = Field(None, gt=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flavour:
    """Limits of each phase, and of each tree of the slot."""

    limits: Limits = dataclasses.field(default_factory=Limits)
    disk_bytes: int = 256 * MIB
    inodes: int = 16_384

    def tree(self, name: str) -> Tree:
        """Return a tree of this flavour's size."""
        return Tree(name=name, size_bytes=self.disk_bytes, inodes=self.inodes)

    def evolve(self, overrides: LimitOverrides) -> Self:
        """Return a copy with the values that `overrides` sets."""
        changes = overrides.changes()
        own = {name: changes.pop(name) for name in ("disk_bytes", "inodes") if name in changes}
        return dataclasses.replace(self, limits=dataclasses.replace(self.limits, **changes), **own)


BUILT_IN: Final[Mapping[str, Flavour]] = {
    "small": Flavour(
        limits=Limits(cpu_time_s=10, wall_time_s=30, memory_bytes=256 * MIB, processes=64),
        disk_bytes=64 * MIB,
        inodes=4_096,
    ),
    "standard": Flavour(),
    "large": Flavour(
        limits=Limits(
            cpus=2.0,
            cpu_time_s=300,
            wall_time_s=600,
            memory_bytes=2048 * MIB,
            processes=512,
            file_size_bytes=512 * MIB,
            output_bytes=4 * MIB,
        ),
        disk_bytes=1024 * MIB,
        inodes=65_536,
    ),
}
DEFAULT: Final = "standard"


def flavours(configured: Mapping[str, Mapping[str, Any]]) -> dict[str, Flavour]:
    """Return the built-in flavours with the operator's changes and additions.

    A new name starts from `standard`. Raises `ConfigurationError`, naming the flavour.
    """
    known = dict(BUILT_IN)
    for name, values in configured.items():
        try:
            overrides = FlavourOverrides.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise ConfigurationError(f"Setting flavours: {name}.{where}: {first['msg']}") from None
        known[name] = known.get(name, BUILT_IN[DEFAULT]).evolve(overrides)
    return known
