"""The grading pipeline: from a payload to results, by way of a plan and a slot."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, Protocol

from job_engine.errors import AssignmentError, SubmissionError
from job_engine.grading import split
from job_engine.grading.archive import ArchiveLimits, Unpacked
from job_engine.grading.assemble import assemble, clone_error, hidden_phases
from job_engine.grading.assignment import NAME, Assignment, check_files
from job_engine.grading.bundles import DIGEST, BlobSource, Bundle, BundleCache
from job_engine.grading.clone import clone_env, commit_of
from job_engine.grading.contracts.grader_input import GraderInput, engine_files, pack_files
from job_engine.grading.flavours import Flavour, flavours
from job_engine.grading.follow import Watch, follow
from job_engine.grading.live import Live
from job_engine.grading.missing_programs import blame_image, image_search
from job_engine.grading.plan import ENGINE, TESTS, Plan, ReportAccess, make_plan
from job_engine.grading.policy import load_assignment
from job_engine.grading.receipt import (
    JobFacts,
    check_replay,
    check_replay_images,
    complete_receipt,
    make_receipt,
)
from job_engine.grading.results import Receipt, Results
from job_engine.grading.secrets import git_secret, stdin_of
from job_engine.grading.setup import SetupRuns
from job_engine.grading.shards import merge, run_shards
from job_engine.grading.submission import GitSource, GradePayload, Submission, workspace_of
from job_engine.grading.verdicts import exceeded_time, explain, with_time_verdict
from job_engine.log import get_logger
from job_engine.sandbox.base import WORKSPACE, Inputs, PhaseResult, Sandbox, Tree
from job_engine.sandbox.policy import may_reach
from job_engine.settings import GradingSettings, SandboxSettings

log = get_logger(__name__)

_BLOCK: Final = 4096


class Catalogue(Protocol):
    """Resolves the names of published assignments."""

    def digest_of(self, name: str) -> str | None:
        """Return the digest of the newest bundle of that name; None: there is none."""

    def publishes(self, digest: str) -> bool:
        """Return whether a bundle of this digest was published as an assignment."""


@dataclass(frozen=True)
class _Published:
    """A source of published bundles only: a submitter's own upload must not grade."""

    blobs: BlobSource
    catalogue: Catalogue

    def download_blob(self, digest: str, target: Path) -> None:
        if not self.catalogue.publishes(digest):
            raise AssignmentError(
                f"No assignment {digest} is published. Add it with "
                "`job-engine assignment add DIR`, or give the name of one that is."
            )
        self.blobs.download_blob(digest, target)


@dataclass(frozen=True, kw_only=True)
class Grader:
    """Grades submissions; has no state of a run, so threads may share it."""

    sandbox: Sandbox
    blobs: BlobSource
    catalogue: Catalogue
    bundles: BundleCache
    settings: GradingSettings
    policy: SandboxSettings
    label: str
    """Owner of the slots, for `Sandbox.sweep`."""
    job_facts: JobFacts
    """What the receipt says about the job."""
    access: ReportAccess | None = None
    """How report commands reach the API; None: they do not."""

    def grade(self, payload: GradePayload, watch: Watch) -> Results:
        """Grade one submission.

        Raises `AssignmentError`, `SubmissionError` or `ArchiveError` for what the creator of
        the job can fix, and `SandboxError` for a platform fault.
        """
        watch.progress(1, "assignment: fetching")
        digest = self._digest(payload.assignment)
        with self.bundles.open(
            digest, _Published(self.blobs, self.catalogue), watch.sleep
        ) as bundle:
            known = flavours(self.settings.flavours)
            assignment = load_assignment(
                bundle.document, known, self.policy, self.sandbox.image_identities
            )
            watch.progress(5, "submission: fetching")
            with workspace_of(
                payload.submission,
                self.blobs,
                self._limits(),
                strip=assignment.submission.strip,
                scratch=watch.scratch,
            ) as workspace:
                grader_input = GraderInput(
                    payload=payload,
                    assignment=assignment,
                    created=self.job_facts.created,
                    workspace=workspace,
                )
                results = self._run(grader_input, known, bundle, workspace, watch)
                return results.model_copy(update={"due": grader_input.due})

    def _limits(self) -> ArchiveLimits:
        return ArchiveLimits(
            max_entries=self.settings.max_submission_files,
            max_bytes=self.settings.max_submission_bytes,
            max_file_bytes=self.settings.max_submission_bytes,
        )

    def _digest(self, assignment: str) -> str:
        """Return the pinned digest, or that of the newest bundle of this name."""
        if DIGEST.fullmatch(assignment):
            return assignment
        digest = self.catalogue.digest_of(assignment) if NAME.fullmatch(assignment) else None
        if digest is None or not DIGEST.fullmatch(digest):
            raise AssignmentError(
                f"There is no assignment {assignment[:80]!a}. Add it with "
                "`job-engine assignment add DIR`, or give the digest of its bundle."
            )
        return digest

    def _run(
        self,
        grader_input: GraderInput,
        known: dict[str, Flavour],
        bundle: Bundle,
        workspace: Unpacked | None,
        watch: Watch,
    ) -> Results:
        payload, assignment = grader_input.payload, grader_input.assignment
        submission = payload.submission
        if submission.git is not None:
            self._check_host(submission.git)
        plan = make_plan(assignment, submission.git, known, self.settings, self.access)
        if assignment.setup is not None:
            plan = self._set_up(assignment, plan, known[assignment.flavour], bundle, watch)
        identity = _identity(submission, workspace)
        receipt = make_receipt(
            self.job_facts, submission, identity, assignment, bundle, plan, self.sandbox
        )
        if payload.replay is not None:
            check_replay(payload.replay, receipt)
        inputs = _inputs(grader_input, plan, bundle, workspace, self.settings)
        if self.access is not None and assignment.phases.report is not None:
            inputs = replace(inputs, stdin={**inputs.stdin, "report": self.access.token().encode()})
        if assignment.due is not None:
            self._announce(plan, assignment.due)
        request = _RunRequest(assignment, plan, inputs, payload)
        if assignment.phases.test.shards > 1:
            return self._run_sharded(request, receipt, identity, watch)
        phases, images = self._phases(request, watch)
        clone = phases.get("clone")
        if clone is not None and submission.git is not None and not clone.ok:
            raise clone_error(clone, plan, submission.git)
        commit = commit_of(clone.stdout) if clone is not None else None
        phases, slow = self._rerun_if_slow(request, commit, phases, watch)
        receipt = complete_receipt(receipt, images, commit or identity, slow)
        results = self._assemble(request, phases, receipt)
        log.info("grading.done", verdict=results.verdict, score=results.score)
        return results

    def _run_sharded(
        self, request: _RunRequest, receipt: Receipt, identity: str, watch: Watch
    ) -> Results:
        """Build once, then run the shards of the tests in parallel."""
        ended = run_shards(
            request.plan,
            request.inputs,
            lambda plan, inputs: self._phases(replace(request, plan=plan, inputs=inputs), watch),
            shards=request.assignment.phases.test.shards,
            at_once=self.settings.shards_at_once,
            scratch=watch.scratch,
        )
        clone, git = ended.before.get("clone"), request.payload.submission.git
        if clone is not None and git is not None and not clone.ok:
            raise clone_error(clone, request.plan, git)
        commit = commit_of(clone.stdout) if clone is not None else None
        receipt = complete_receipt(receipt, ended.images, commit or identity, ended.slow)
        if not ended.shards:
            return self._assemble(request, ended.before, receipt)
        return merge(
            [
                assemble(request.assignment, request.plan, {**ended.before, **shard}, receipt)
                for shard in ended.shards
            ],
            request.assignment.results.max_score,
        )

    def _assemble(
        self, request: _RunRequest, phases: Mapping[str, PhaseResult], receipt: Receipt
    ) -> Results:
        """Return the results; what the image lacks is the assignment's fault."""
        assignment, plan = request.assignment, request.plan
        search = image_search(self.sandbox, plan, self.label)
        results = assemble(assignment, plan, phases, receipt)
        tests = request.inputs.trees.get(TESTS)
        return blame_image(results, assignment, plan, phases, search, tests)

    def _set_up(
        self, assignment: Assignment, plan: Plan, flavour: Flavour, bundle: Bundle, watch: Watch
    ) -> Plan:
        """Return the plan with the image from the assignment's setup, which runs if necessary."""
        tree = flavour.tree(TESTS)
        _check_tests(tree, bundle)
        watch.progress(6, "setup: running, or made already")
        runs = SetupRuns(
            sandbox=self.sandbox, settings=self.settings, policy=self.policy, label=self.label
        )
        image = runs.image_for(assignment, bundle, tree, watch)
        return replace(
            plan,
            phases=tuple(
                replace(phase, image=image) if phase.own_root is not None else phase
                for phase in plan.phases
            ),
        )

    def _check_host(self, git: GitSource) -> None:
        host, port = git.address()
        if not may_reach(self.policy.allow_reach, host, port):
            raise SubmissionError(
                f"The operator does not let repositories be cloned from {host}:{port} (setting "
                "allow_reach). Upload an archive instead."
            )

    def _announce(self, plan: Plan, due: datetime) -> None:
        self.sandbox.expect(
            label=self.label,
            phases=plan.phases,
            trees=plan.trees,
            image=plan.image,
            due_in_s=(due - datetime.now(UTC)).total_seconds(),
        )

    def _rerun_if_slow(
        self, request: _RunRequest, commit: str | None, first: dict[str, PhaseResult], watch: Watch
    ) -> tuple[dict[str, PhaseResult], PhaseResult | None]:
        """Run everything again in a new slot if the tests were slightly too slow.

        Returns the phases that count, and the first run's tests. The latter is None if one run
        was enough, or the second did not reach the tests; then the first run counts.
        """
        test = first.get("test")
        if test is None:
            return first, None
        limits = request.plan.limits("test")
        if not exceeded_time(test, limits):
            return first, None
        how = explain(with_time_verdict(test, limits), limits)
        watch.log(f"test: {how}, by less than a tenth: everything is run once more")
        phases, _ = self._phases(request.again(commit), watch)
        if "test" not in phases:
            # A submission must not avoid the verdict by breaking its second run.
            return {**first, "test": with_time_verdict(test, limits)}, None
        return {**phases, "test": with_time_verdict(phases["test"], limits)}, test

    def _phases(
        self, request: _RunRequest, watch: Watch
    ) -> tuple[dict[str, PhaseResult], Mapping[str, str]]:
        """Run the phases in a new slot, which is always destroyed; return them and their images."""
        watch.progress(8, "sandbox: preparing")
        plan = request.plan
        live = Live(request.assignment, watch.event, hidden_phases(plan, request.assignment))
        slot = self.sandbox.prepare(
            label=self.label, phases=plan.phases, trees=plan.trees, image=plan.image
        )
        try:
            if request.payload.replay is not None:
                check_replay_images(request.payload.replay, slot.images)
            with watch.lend(slot.kill):
                return follow(slot, plan, request.inputs, watch, live), slot.images
        finally:
            slot.destroy()


@dataclass(frozen=True)
class _RunRequest:
    """The arguments of one run in a slot."""

    assignment: Assignment
    plan: Plan
    inputs: Inputs
    payload: GradePayload

    def again(self, commit: str | None) -> _RunRequest:
        """Return the request for a second run, of the same commit as the first."""
        for stream in self.inputs.trees.values():
            stream.seek(0)
        git = self.payload.submission.git
        if git is None or commit is None:
            return self
        pinned = git.model_copy(update={"commit": commit, "ref": None})
        env = {
            **self.inputs.env,
            "clone": clone_env(pinned, keep_git=self.assignment.submission.keep_git),
        }
        return replace(self, inputs=replace(self.inputs, env=env))


def _inputs(
    grader_input: GraderInput,
    plan: Plan,
    bundle: Bundle,
    workspace: Unpacked | None,
    settings: GradingSettings,
) -> Inputs:
    submission, assignment = grader_input.payload.submission, grader_input.assignment
    names = {tree.name for tree in plan.trees}
    trees: dict[str, IO[bytes]] = {}
    if TESTS in names:
        _check_tests(_tree(plan, TESTS), bundle)
        trees[TESTS] = bundle.tests
    if ENGINE in names:
        trees[ENGINE] = pack_files(engine_files(grader_input), _tree(plan, ENGINE).size_bytes)
    stdin: dict[str, bytes] = {}
    if assignment.phases.test.program is not None:
        trees |= split.contents()
    if submission.git is not None:
        secret = stdin_of(git_secret(submission.git, settings.git_secrets_file))
        if secret:
            stdin["clone"] = secret
    elif workspace is not None:
        _check_workspace(assignment, _tree(plan, WORKSPACE), workspace)
        trees[WORKSPACE] = workspace.stream
    return Inputs(trees=trees, stdin=stdin, env=plan.env)


def _check_workspace(assignment: Assignment, tree: Tree, workspace: Unpacked) -> None:
    if missing := check_files(assignment, workspace.files):
        raise SubmissionError(
            f"The submission lacks {', '.join(missing)}. The assignment needs "
            f"{', '.join(assignment.submission.files)} at these places."
        )
    # Checked here, so that a submission that is too large is not a fault of the sandbox. Files,
    # and links with long targets, take whole blocks; directories take an inode as well.
    blocks = len(workspace.files) + workspace.links
    needed, inodes = workspace.size_bytes + _BLOCK * blocks, blocks + workspace.directories
    if needed > tree.size_bytes or inodes > tree.inodes // 2:
        raise SubmissionError(
            f"The submission is too large for this assignment: {needed:,} bytes in "
            f"{inodes:,} files and directories; there is room for {tree.size_bytes:,} bytes in "
            f"{tree.inodes // 2:,} of them."
        )


def _check_tests(tree: Tree, bundle: Bundle) -> None:
    size = bundle.tests.seek(0, io.SEEK_END)
    bundle.tests.seek(0)
    if size > tree.size_bytes:
        raise AssignmentError(
            f"The assignment's tests take {size:,} bytes; its flavour has room for "
            f"{tree.size_bytes:,}. Choose a larger flavour."
        )


def _tree(plan: Plan, name: str) -> Tree:
    return next(tree for tree in plan.trees if tree.name == name)


def _identity(submission: Submission, workspace: Unpacked | None) -> str:
    if submission.archive is not None:
        return submission.archive.blob
    if workspace is not None:
        return workspace.digest
    return submission.git.wanted if submission.git else ""
