"""The assignment: the schema of `assignment.yaml`, whose errors name the line.

A bundle holds `assignment.yaml` at its root and, beside it, the directory `tests/`,
which only the test phase sees. The digest of the bundle is the assignment's identity.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    model_validator,
)

from job_engine.grading import split
from job_engine.grading.contracts import expand
from job_engine.grading.contracts.autolab import Autolab
from job_engine.grading.contracts.cases import Cases
from job_engine.grading.contracts.classroom import Classroom
from job_engine.grading.contracts.prairielearn import ExternalGrading
from job_engine.grading.contracts.submitty import Submitty
from job_engine.grading.contracts.vpl import Vpl
from job_engine.grading.fields import (
    Command,
    EnvName,
    ImageName,
    ReachText,
    RelativePath,
    StrictModel,
    Target,
    argv,
)
from job_engine.grading.flavours import DEFAULT, Flavour, LimitOverrides
from job_engine.grading.results.formats import FORMATS
from job_engine.grading.results.stream import DEFAULT_PATH
from job_engine.grading.yaml_lines import Lines, load, validate
from job_engine.sandbox.base import Limits, Reach

_MAY_FAIL: Final = (
    """"$@" || echo "The setup ended with exit code $?, and is used all the same.\""""
)
FILE_NAME: Final = "assignment.yaml"
TESTS_DIRECTORY: Final = "tests"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What a whole name of an assignment matches."""


class Phase(StrictModel):
    """One phase of an assignment; a text alone is its command."""

    command: Command | None = None
    """Text runs as `sh -c`; a list runs as it is."""
    env: dict[EnvName, str] = {}
    limits: LimitOverrides = LimitOverrides()
    reach: list[ReachText] = []
    """`host:port` it may connect to, through the proxy variables."""
    kvm: bool = False
    image: ImageName | None = None

    def argv(self) -> tuple[str, ...]:
        """Return the command as words."""
        return argv(self.command or "")

    def reaches(self) -> tuple[Reach, ...]:
        """Return where it may connect to."""
        pairs = [text.rpartition(":") for text in self.reach]
        return tuple(Reach(host=host, port=int(port)) for host, _, port in pairs)


def _phase(value: Any) -> Any:
    return {"command": value} if isinstance(value, (str, list)) else value


AnyPhase = Annotated[Phase, BeforeValidator(_phase)]


class Program(StrictModel):
    """The student's program, for a split run; text alone or a list is its command."""

    command: Command
    """Text runs as `sh -c`, with the harness's arguments as `$@`; to a list they are added."""
    env: dict[EnvName, str] = {}
    limits: LimitOverrides = LimitOverrides()
    """Of all its runs together."""
    image: ImageName | None = None

    def argv(self) -> tuple[str, ...]:
        """Return the command as words, to which a run's arguments are added."""
        words = argv(self.command)
        return (*words, "program") if isinstance(self.command, str) else words


class TestPhase(Phase):
    """The test phase. With a `program` it is a split run: see the `split` package."""

    __test__ = False

    program: Annotated[Program, BeforeValidator(_phase)] | None = None
    """Runs in a sandbox of its own, with the submission, which the harness then does not see;
    the harness starts it as `/mnt/program/run ARGUMENT…`."""
    profile: Literal["own-root"] | None = None
    """Root of a root file system of its own, where the operator grants it."""
    shards: int = Field(1, ge=1, le=16)
    """Slots that it runs in side by side, from one build; JOB_ENGINE_SHARD says which one it
    is, from 1, of JOB_ENGINE_SHARDS."""
    sees_tests: bool = True
    """Whether it sees the tests; not, where the setup put them into the image."""


class Setup(StrictModel):
    """Run once, as root, to make the image that the test phase runs from."""

    command: Command
    """Sees the tests (read-only); text runs as `sh -c`."""
    env: dict[EnvName, str] = {}
    may_fail: bool = False
    """Whether its image is used though its exit code is not 0: where there is no network, and
    the base image has what it would have fetched."""

    def argv(self) -> tuple[str, ...]:
        """Return the command as words."""
        words = argv(self.command)
        return ("sh", "-c", _MAY_FAIL, "setup", *words) if self.may_fail else words


class ClonePhase(StrictModel):
    """Fetches a git submission; its command is the engine's own."""

    limits: LimitOverrides = LimitOverrides()
    image: ImageName | None = None


class Phases(StrictModel):
    """The phases in their order. All but `test` may be left out."""

    clone: ClonePhase = ClonePhase()
    build: AnyPhase | None = None
    """Sees the submission; not the tests."""
    test: Annotated[TestPhase, BeforeValidator(_phase)]
    """Sees submission, tests (read-only) and the results directory; reaches nothing."""
    report: AnyPhase | None = None
    """Sees the results (read-only)."""

    @model_validator(mode="after")
    def _keep_apart(self) -> Phases:
        if self.test.reach:
            # What reaches both the tests and the network could carry the tests away.
            raise ValueError("test: a phase that sees the tests cannot have 'reach'")
        if self.test.shards > 1 and self.report:
            raise ValueError("test: with 'shards' there is no report")
        for name in ("build", "test", "report"):
            phase = getattr(self, name)
            if phase is not None and phase.command is None:
                raise ValueError(f"{name}: a command is needed")
            if phase is not None and phase.kvm and name != "test":
                raise ValueError(f"{name}: only the test phase may ask for kvm")
        return self


def _apart(places: list[str], prefix: str = "") -> None:
    if any(a != b and f"{a}/".startswith(f"{b}/") for a in places for b in places):
        raise ValueError(f"{prefix}no mount may lie inside another")
    if len(set(places)) < len(places):
        raise ValueError(f"{prefix}two mounts have the same place")


class Mounts(StrictModel):
    """Where the phases see the slot's trees."""

    submission: Target = "/mnt/submission"
    tests: Target = "/mnt/tests"
    results: Target = "/mnt/results"
    program: Target = "/mnt/program"
    """Of a split run: where the harness finds `run`."""

    @model_validator(mode="after")
    def _keep_apart(self) -> Mounts:
        _apart([self.submission, self.tests, self.results])
        return self


class ResultsSpec(StrictModel):
    """The format and place of the test phase's results."""

    format: str
    path: RelativePath | Literal["-"] | None = None
    """The file, in the results directory; `-`: standard output. None: the format's own."""
    stream: RelativePath | Literal["-"] | None = None
    """A file that gets a line of JSON for each test as it finishes: what it holds counts when
    a limit or a crash ends the tests before the results are written."""
    max_score: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Full score, where the results do not contain it."""
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Points of tests by name, for formats without points (tap, junit); else 1 each."""
    forgeable: bool = True
    """Whether a submission could write its own score. Only of a split run may it be said that
    it could not, and there it is the default."""
    output_visible: bool = False
    """Whether the student sees what the test phase prints."""

    @property
    def stdout_stream(self) -> Literal["stream", "tap"] | None:
        """The format of the tests that standard output gets as they finish, if it does."""
        if self.stream == "-" or (self.format == "stream" and self.path == "-"):
            return "stream"
        return "tap" if self.format == "tap" and self.path in (None, "-") else None

    @property
    def file_stream(self) -> str | None:
        """The file in the results directory that gets a line as each test finishes, if one does
        and standard output does not."""
        if self.stdout_stream is not None:
            return None
        if self.stream is None and self.format == "stream":
            return self.path or DEFAULT_PATH
        return self.stream

    @model_validator(mode="after")
    def _known(self) -> ResultsSpec:
        if self.format not in FORMATS:
            raise ValueError(f"format: '{self.format}' is none of {', '.join(sorted(FORMATS))}")
        return self


class SubmissionSpec(StrictModel):
    """What a submission must look like."""

    files: list[RelativePath] = []
    """Files it must have."""
    strip: bool = True
    """Drop a single top-level directory of an archive."""
    keep_git: bool = False
    """Leave `.git` in the workspace of a git submission."""


class Assignment(StrictModel):
    """One assignment."""

    name: Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]
    title: Annotated[str, StringConstraints(max_length=200)] = ""
    contract: Literal[
        "phases",
        "autolab",
        "cases",
        "check50",
        "classroom",
        "gradescope",
        "prairielearn",
        "submitty",
        "vpl",
    ] = "phases"
    """The kind of autograder; all but `phases` define phases and results themselves."""
    image: ImageName | None = None
    due: AwareDatetime | None = None
    """When many submissions are expected; executors that know the assignment prepare slots."""
    flavour: str = DEFAULT
    limits: LimitOverrides = LimitOverrides()
    """Changes to the flavour's limits, for every phase."""
    mounts: Mounts = Mounts()
    submission: SubmissionSpec = SubmissionSpec()
    cases: Cases | None = None
    """For `contract: cases`."""
    prairielearn: ExternalGrading | None = None
    """For `contract: prairielearn`: the question's `externalGradingOptions`."""
    autolab: Autolab | None = None
    """For `contract: autolab`."""
    classroom: Classroom | None = None
    """For `contract: classroom`."""
    submitty: Submitty | None = None
    """For `contract: submitty`."""
    vpl: Vpl | None = None
    """For `contract: vpl`."""
    setup: Setup | None = None
    phases: Phases
    results: ResultsSpec

    @property
    def forgeable(self) -> bool:
        """Whether a submission could write its own score, whatever the assignment claims."""
        if self.phases.test.program is None:
            return True
        return self.results.forgeable and "forgeable" in self.results.model_fields_set

    def program_limits(self, program: Program, flavour: Flavour) -> Limits:
        """Return the limits of a split run's program; its time is that of the test phase."""
        wall_time_s = self.phase_limits(self.phases.test, flavour).wall_time_s
        limits = replace(flavour.evolve(self.limits).limits, wall_time_s=wall_time_s)
        return replace(flavour, limits=limits).evolve(program.limits).limits

    @model_validator(mode="after")
    def _fits_its_form(self) -> Assignment:
        mounts = self.mounts
        if self.phases.test.program is not None:
            own = [mounts.program, split.join_target(mounts.program)]
            _apart([mounts.submission, mounts.tests, mounts.results, *own], "mounts: ")
        elif not self.results.forgeable:
            raise ValueError(
                "results.forgeable: 'false' is for split runs (phases.test.program); a harness "
                "that runs students' code itself can always be made to write another score"
            )
        return self

    @model_validator(mode="after")
    def _can_be_put_together(self) -> Assignment:
        if self.phases.test.shards > 1 and self.results.format == "stdout":
            raise ValueError("results.format: 'stdout' is all or nothing, which has no shards")
        return self

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, document: Any) -> Any:
        return expand(document)

    @model_validator(mode="after")
    def _fits_its_contract(self) -> Assignment:
        if (self.contract == "cases") != (self.cases is not None) and self.contract != "vpl":
            raise ValueError("cases: it goes with 'contract: cases', and that with it")
        if (self.contract == "classroom") != (self.classroom is not None):
            raise ValueError("classroom: it goes with 'contract: classroom', and that with it")
        if (self.contract == "submitty") != (self.submitty is not None):
            raise ValueError("submitty: it goes with 'contract: submitty', and that with it")
        if self.contract == "cases" and self.phases.test.program is None:
            raise ValueError("cases.program: a command is needed")
        if self.setup is not None and self.phases.test.profile is None:
            raise ValueError("setup: it makes a root file system, so the test phase needs own-root")
        if self.phases.test.profile is not None and self.phases.test.program is not None:
            raise ValueError("phases.test.profile: a split run's harness needs no such profile")
        return self

    def phase_limits(self, phase: Phase | ClonePhase, flavour: Flavour) -> Limits:
        """Return a phase's limits: the flavour's, with changes of the assignment and the phase."""
        return flavour.evolve(self.limits).evolve(phase.limits).limits


def parse(text: bytes) -> tuple[Assignment, Lines]:
    """Parse `assignment.yaml`; the operator's policy is checked in `policy`.

    Raises `AssignmentError`, naming the line of every problem.
    """
    value, lines = load(text, FILE_NAME)
    return validate(Assignment, value, lines), lines


def check_files(assignment: Assignment, files: tuple[str, ...]) -> list[str]:
    """Return the expected files that are missing."""
    present = set(files)
    return [name for name in assignment.submission.files if name not in present]
