"""Every example with reference solutions, proved as `job-engine assignment check` does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from job_engine.grading.bundles import BundleCache
from job_engine.grading.contracts.recognise import bundle_of
from job_engine.grading.pipeline import Grader
from job_engine.grading.prove import LocalBlobs, prove, solutions_of
from job_engine.grading.receipt import JobFacts
from job_engine.sandbox.base import Sandbox
from job_engine.settings import GradingSettings, SandboxSettings
from tests.integration.grading.conftest import EXAMPLES, Follower

PROVED = sorted(found.parent for found in EXAMPLES.rglob("solutions"))


@pytest.mark.parametrize("example", PROVED, ids=lambda path: path.name)
def test_examples_give_their_solutions_what_they_must(
    granting: tuple[Sandbox, SandboxSettings], example: Path, tmp_path: Path
) -> None:
    sandbox, policy = granting
    blobs = LocalBlobs(tmp_path)
    packed = tmp_path / "bundle"
    with bundle_of(example) as bundle, packed.open("wb") as out:
        shutil.copyfileobj(bundle.stream, out)
    settings = GradingSettings(bundle_cache_dir=tmp_path / "bundles")
    grader = Grader(
        sandbox=sandbox,
        blobs=blobs,
        catalogue=blobs,
        bundles=BundleCache.from_settings(settings),
        settings=settings,
        policy=policy,
        label="examples",
        job_facts=JobFacts(executor="examples"),
    )
    solutions = solutions_of(example / "solutions")
    proofs = list(prove(grader, blobs, blobs.add(packed), solutions, Follower(tmp_path)))
    assert [proof.solution.name for proof in proofs][:2] == ["model", "empty"]
    assert len(proofs) > 2
    for proof in proofs:
        assert not proof.problems, (proof.solution.name, proof.got, proof.results)
