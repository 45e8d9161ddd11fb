"""The plan of a submission: phases, trees, and which phase sees which tree.

| phase  | workspace | tests     | results    | reaches               |
|--------|-----------|-----------|------------|-----------------------|
| clone  | rw        | -         | -          | the repository's host |
| build  | rw        | -         | -          | what it names         |
| test   | rw        | read-only | rw         | nothing               |
| report | -         | -         | read-only  | the API, what it names |

In a split run the test phase does not see the workspace. Its companion, the program, sees the
workspace and nothing else; a tree that joins the two is read-only for the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from job_engine.errors import AssignmentError
from job_engine.grading import split
from job_engine.grading.assignment import Assignment, Phase, Program, TestPhase
from job_engine.grading.clone import clone_env, clone_phase
from job_engine.grading.contracts.expand import ENGINE_MOUNT, WITH_ENGINE_FILES
from job_engine.grading.flavours import MIB, Flavour
from job_engine.grading.submission import GitSource
from job_engine.sandbox.base import (
    WORKSPACE,
    Follow,
    Handover,
    Limits,
    Mount,
    OwnRoot,
    PhaseSpec,
    Reach,
    Tree,
)
from job_engine.sandbox.policy import with_companions
from job_engine.settings import GradingSettings

TESTS: Final = "tests"
RESULTS: Final = "results"
PROGRAM: Final = "program"
"""Name of the phase that runs the program of a split run."""
ENGINE: Final = "engine"
"""Tree with the files that the engine writes for a contract's grader."""

_RESULTS_BYTES: Final = 16 * MIB
_ENGINE_BYTES: Final = 4 * MIB
_RESULTS_INODES: Final = 1_024
_LIVE: Final = frozenset({"build", "test"})
"""Phases whose output is streamed."""
OVERRUN: Final = 0.1
"""Fraction by which tests may exceed their time before they are ended. Tests that are too slow
by less than that may have run on a busy machine, and are run a second time."""


@dataclass(frozen=True)
class ReportAccess:
    """The access of a report command to the API, for the log of its own job."""

    api_url: str
    job: str
    token: Callable[[], str]
    """Returns the token that the command reads on standard input."""

    @property
    def reach(self) -> Reach:
        """The API's host and port."""
        parts = urlsplit(self.api_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return Reach(host=parts.hostname or "", port=port, trusted=True)

    @property
    def env(self) -> dict[str, str]:
        """Environment variables with the API's address and the job's id."""
        return {"JOB_ENGINE_API_URL": self.api_url, "JOB_ENGINE_JOB": self.job}


@dataclass(frozen=True)
class Plan:
    """The arguments of `Sandbox.prepare`, and the environment of `go`."""

    phases: tuple[PhaseSpec, ...]
    trees: tuple[Tree, ...]
    image: str | None
    env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Variables of this job alone, which `go` adds, so that slots can be prepared in advance."""

    @property
    def specs(self) -> tuple[PhaseSpec, ...]:
        """The phases, followed by the program of a split run."""
        return with_companions(self.phases)

    def limits(self, phase: str) -> Limits:
        """Return the phase's limits."""
        return next(spec.limits for spec in self.specs if spec.name == phase)


def make_plan(
    assignment: Assignment,
    git: GitSource | None,
    flavours: Mapping[str, Flavour],
    settings: GradingSettings,
    access: ReportAccess | None = None,
) -> Plan:
    """Return the plan for one submission.

    `git` is the repository to clone, if there is one; `access` lets a report command reach
    the API.
    """
    flavour = flavours.get(assignment.flavour)
    if flavour is None:
        raise AssignmentError(f"There is no flavour '{assignment.flavour}'.")
    phases = []
    env: dict[str, Mapping[str, str]] = {}
    if git is not None:
        phases.append(_clone(assignment, git, flavour, settings))
        env["clone"] = clone_env(git, keep_git=assignment.submission.keep_git)
    if (build := assignment.phases.build) is not None:
        phases.append(_phase("build", build, assignment, flavour, (_workspace(assignment),)))
    phases.append(_test(assignment, flavour))
    if (report := assignment.phases.report) is not None:
        phases.append(_report(report, assignment, flavour, access))
        if access is not None:
            env["report"] = access.env
    return Plan(tuple(phases), _trees(assignment, flavour), assignment.image, env)


def _workspace(assignment: Assignment) -> Mount:
    return Mount(tree=WORKSPACE, target=assignment.mounts.submission)


def _test(assignment: Assignment, flavour: Flavour) -> PhaseSpec:
    test, mounts = assignment.phases.test, assignment.mounts
    results = Mount(tree=RESULTS, target=mounts.results)
    # The first mount is the working directory.
    seen = [_workspace(assignment) if test.program is None else results]
    if test.sees_tests:
        seen.append(Mount(tree=TESTS, target=mounts.tests, read_only=True))
    seen += [results] if test.program is None else _joined(assignment)
    if assignment.contract in WITH_ENGINE_FILES:
        seen.append(Mount(tree=ENGINE, target=ENGINE_MOUNT, read_only=True))
    handover = (_handover(assignment),)
    spec = _phase("test", test, assignment, flavour, tuple(seen), handover=handover)
    if (path := assignment.results.file_stream) is not None:
        spec = replace(spec, follow=Follow(tree=RESULTS, path=path))
    if test.program is None:
        return spec
    return replace(spec, companion=_program(test.program, assignment, flavour))


def _report(
    report: Phase, assignment: Assignment, flavour: Flavour, access: ReportAccess | None
) -> PhaseSpec:
    seen = Mount(tree=RESULTS, target=assignment.mounts.results, read_only=True)
    spec = _phase("report", report, assignment, flavour, (seen,), always=True)
    # Not in the results: `python3 -c` would import modules that the submission has put there,
    # which would then have the token, and could send the tests to the API.
    spec = replace(spec, workdir="/")
    return spec if access is None else replace(spec, reach=(*spec.reach, access.reach))


def _trees(assignment: Assignment, flavour: Flavour) -> tuple[Tree, ...]:
    test = assignment.phases.test
    trees = [flavour.tree(WORKSPACE)]
    if test.sees_tests:
        trees.append(flavour.tree(TESTS))
    if assignment.contract in WITH_ENGINE_FILES:
        trees.append(Tree(name=ENGINE, size_bytes=_ENGINE_BYTES, inodes=256))
    trees.append(_results_tree(assignment, flavour))
    if test.program is not None:
        trees += split.TREES
    return tuple(trees)


def _joined(assignment: Assignment) -> tuple[Mount, Mount]:
    target = assignment.mounts.program
    return (
        Mount(tree=split.JOIN, target=split.join_target(target)),
        Mount(tree=split.TOOLS, target=target, read_only=True),
    )


def _program(program: Program, assignment: Assignment, flavour: Flavour) -> PhaseSpec:
    workspace = _workspace(assignment)
    return PhaseSpec(
        name=PROGRAM,
        command=split.serve_command(assignment.mounts.program, program.argv()),
        limits=assignment.program_limits(program, flavour),
        mounts=(workspace, replace(_joined(assignment)[0], read_only=True)),
        workdir=workspace.target,
        env=program.env,
        image=program.image,
    )


def _clone(
    assignment: Assignment, git: GitSource, flavour: Flavour, settings: GradingSettings
) -> PhaseSpec:
    clone = assignment.phases.clone
    return clone_phase(
        git,
        target=assignment.mounts.submission,
        limits=assignment.phase_limits(clone, flavour),
        image=clone.image or settings.clone_image,
        expected=tuple(assignment.submission.files),
    )


def _results_tree(assignment: Assignment, flavour: Flavour) -> Tree:
    if assignment.contract == "prairielearn":
        # PrairieLearn's results are a directory of the grader's whole working tree.
        return flavour.tree(RESULTS)
    return Tree(
        name=RESULTS,
        size_bytes=min(_RESULTS_BYTES, flavour.disk_bytes),
        inodes=min(_RESULTS_INODES, flavour.inodes),
    )


def _handover(assignment: Assignment) -> Handover:
    path = "results" if assignment.contract == "prairielearn" else "."
    return Handover(tree=RESULTS, path=path, max_bytes=8 * MIB, max_files=256)


def _own_root(phase: TestPhase, flavour: Flavour) -> OwnRoot | None:
    if phase.profile is None:
        return None
    return OwnRoot(size_bytes=flavour.disk_bytes, inodes=flavour.inodes)


def _phase(
    name: str,
    phase: Phase,
    assignment: Assignment,
    flavour: Flavour,
    mounts: tuple[Mount, ...],
    *,
    handover: tuple[Handover, ...] = (),
    always: bool = False,
) -> PhaseSpec:
    limits = assignment.phase_limits(phase, flavour)
    if name == "test":
        limits = replace(limits, overrun=OVERRUN)
    # The working directory is the workspace if the phase sees it, else the results.
    return PhaseSpec(
        name=name,
        command=phase.argv(),
        limits=limits,
        mounts=mounts,
        workdir=mounts[0].target,
        env=phase.env,
        image=phase.image,
        reach=phase.reaches(),
        kvm=phase.kvm,
        own_root=_own_root(phase, flavour) if isinstance(phase, TestPhase) else None,
        handover=handover,
        live=name in _LIVE,
        always=always,
    )
