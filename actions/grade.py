"""`grade`: build and test a submission in sandboxes, and store its score."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from job_engine.client import Api
from job_engine.grading.bundles import BundleCache
from job_engine.grading.catalogue import ApiCatalogue
from job_engine.grading.pipeline import Grader
from job_engine.grading.plan import ReportAccess
from job_engine.grading.policy import terms_of
from job_engine.grading.receipt import JobFacts
from job_engine.grading.results import Outcome, to_json
from job_engine.grading.submission import GradePayload
from job_engine.model import Job
from job_engine.plugins import Action, Context, Result, RetryPolicy
from job_engine.sandbox.base import Sandbox
from job_engine.settings import ExecutorSettings

HARNESS_FAILED: Final = 3
"""Return code of a job whose assignment's harness gave no results."""


class Grade(Action[GradePayload]):
    """Grade one submission; its `output` is the results as JSON.

    Whatever the submission does is a result: the job is SUCCESS, with a score and a message.
    It is FAILED if the assignment or submission cannot be fetched or is invalid, with a message
    for its creator, and if the harness gave no results (return code 3; `output` has the phases).
    """

    name = "grade"
    payload = GradePayload
    timeout_s = 3600.0
    retry = RetryPolicy(max_attempts=3, backoff_s=5.0)
    retry_away = RetryPolicy(max_attempts=6, backoff_s=10.0)  # a git server that starts again
    cost = 10.0
    needs = (Api, Sandbox, ExecutorSettings)

    def terms(self, collaborators: Mapping[type[Any], object]) -> dict[str, Any]:
        """Publish the policy on assignments; see `Action.terms`."""
        settings = collaborators[ExecutorSettings]
        assert isinstance(settings, ExecutorSettings)
        return terms_of(settings, settings)

    def run(self, context: Context[GradePayload]) -> Result:
        """Grade, and return the results."""
        settings = context.need(ExecutorSettings)
        api = context.need(Api)
        grader = Grader(
            sandbox=context.need(Sandbox),
            blobs=api,
            catalogue=ApiCatalogue(api),
            bundles=BundleCache.from_settings(settings),
            settings=settings,
            policy=settings,
            label=settings.name,
            job_facts=JobFacts(
                executor=settings.name,
                attempts=context.job.attempts + 1,
                interruptions=context.job.interruptions,
                created=datetime.fromtimestamp(context.job.created_ms / 1000, UTC),
            ),
            access=ReportAccess(api.endpoint, context.job.id, lambda: _token(api, context.job)),
        )
        results = grader.grade(context.payload, context)
        broken = results.outcome is Outcome.HARNESS_FAILED
        return Result(
            return_code=HARNESS_FAILED if broken else 0,
            message=results.headline,
            output=to_json(results),
        )


def _token(api: Api, job: Job) -> str:
    assert job.fence is not None  # running jobs are claimed
    return api.claim_token(job.id, job.fence)
