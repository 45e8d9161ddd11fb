"""One command in a sandbox: what the action `run_command` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from job_engine.errors import ActionFailedError, SandboxError
from job_engine.grading.archive import ArchiveLimits
from job_engine.grading.fields import Command, EnvName, StrictModel, argv
from job_engine.grading.flavours import DEFAULT, LimitOverrides, flavours
from job_engine.grading.follow import Watch
from job_engine.grading.results.hostile import decode
from job_engine.grading.submission import Base64File, FileName, pack_inline
from job_engine.grading.verdicts import explain
from job_engine.sandbox.base import (
    WORKSPACE,
    FileGrew,
    Inputs,
    Limits,
    Mount,
    PhaseOutput,
    PhaseResult,
    PhaseSpec,
    PhaseStarted,
    Sandbox,
    Slot,
    Tree,
    Verdict,
)
from job_engine.settings import GradingSettings

PHASE: Final = "command"
WORKDIR: Final = "/mnt/work"
MAX_STREAM: Final = 200_000
"""Characters of each output stream that are stored."""


class CommandPayload(StrictModel):
    """The payload of a `run_command` job."""

    command: Command
    """Text runs as `sh -c`; a list runs as it is."""
    files: Annotated[dict[FileName, str | Base64File], Field(max_length=256)] = {}
    """Put into the working directory first; text, or `{base64: …}`."""
    stdin: Annotated[str, StringConstraints(max_length=16_384)] = ""
    env: dict[EnvName, str] = {}
    image: str | None = None
    flavour: str = DEFAULT
    limits: LimitOverrides = LimitOverrides()


class CommandOutput(BaseModel):
    """The `output` of a `run_command` job."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    message: str
    exit_code: int | None
    signal: int | None
    wall_time_s: float
    cpu_time_s: float
    peak_memory_bytes: int
    stdout: str
    stderr: str


def run_command(
    payload: CommandPayload,
    watch: Watch,
    sandbox: Sandbox,
    settings: GradingSettings,
    label: str,
) -> CommandOutput:
    """Run one command in a slot of its own, and destroy it.

    Raises `ActionFailedError` or `SubmissionError` for a payload that cannot be run, and
    `SandboxError` for a fault of the platform.
    """
    phase, tree = _spec(payload, settings)
    with _files(payload, tree, watch) as files:
        watch.progress(5, "sandbox: preparing")
        slot = sandbox.prepare(label=label, phases=(phase,), trees=(tree,), image=payload.image)
        try:
            with watch.lend(slot.kill):
                slot.go(Inputs(trees=files, stdin={PHASE: payload.stdin.encode()}))
                result = _result(slot, watch)
        finally:
            slot.destroy()
    return _output(result, phase.limits)


def _spec(payload: CommandPayload, settings: GradingSettings) -> tuple[PhaseSpec, Tree]:
    known = flavours(settings.flavours)
    if payload.flavour not in known:
        names = ", ".join(sorted(known))
        raise ActionFailedError(f"There is no flavour '{payload.flavour}'; there are {names}.")
    if payload.image is not None and payload.image not in settings.command_images:
        raise ActionFailedError(
            f"The image {payload.image[:80]!a} is none that commands may name; the operator can "
            "add it to command_images."
        )
    flavour = known[payload.flavour].evolve(payload.limits)
    spec = PhaseSpec(
        name=PHASE,
        command=argv(payload.command),
        limits=flavour.limits,
        mounts=(Mount(tree=WORKSPACE, target=WORKDIR),),
        workdir=WORKDIR,
        env=payload.env,
    )
    return spec, flavour.tree(WORKSPACE)


@contextmanager
def _files(payload: CommandPayload, tree: Tree, watch: Watch) -> Iterator[dict[str, IO[bytes]]]:
    if not payload.files:
        yield {}
        return
    # Half of the tree: files take whole blocks, and the command needs room of its own.
    limits = ArchiveLimits(max_entries=tree.inodes // 2, max_bytes=tree.size_bytes // 2)
    with pack_inline(payload.files, limits, watch.scratch) as packed:
        yield {WORKSPACE: packed.stream}


def _result(slot: Slot, watch: Watch) -> PhaseResult:
    for event in slot.collect():
        if isinstance(event, PhaseStarted):
            watch.progress(20, "command: running")
        elif isinstance(event, (PhaseOutput, FileGrew)):
            continue  # It is in the result as well.
        elif event.verdict is Verdict.KILLED:
            watch.progress(95)  # raises the interruption that killed it
            raise SandboxError("The sandbox was killed from outside of the run.")
        else:
            return event
    raise SandboxError("The sandbox ended without running the command.")


def _output(result: PhaseResult, limits: Limits) -> CommandOutput:
    return CommandOutput(
        verdict=result.verdict,
        message=f"The command ended: {explain(result, limits)}.",
        exit_code=result.exit_code,
        signal=result.signal,
        wall_time_s=round(result.wall_time_s, 3),
        cpu_time_s=round(result.cpu_time_s, 3),
        peak_memory_bytes=result.peak_memory_bytes,
        stdout=decode(result.stdout, MAX_STREAM),
        stderr=decode(result.stderr, MAX_STREAM),
    )
