"""The metrics of `GET /api/metrics`, for Prometheus.

Gauges are read from the store for each request (`store/jobs/backlog.py`). Counters and
histograms are those of this process since its start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from job_engine.api.concurrency.streams import Streams
from job_engine.api.durations import Durations
from job_engine.model.protocol.claims import ClaimReply, Report, ReportKind, ReportReceipt
from job_engine.store.jobs.backlog import Backlogs
from job_engine.store.jobs.reports import Reported

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format, which all of its versions read."""


class Metrics:
    """The metrics of one process of the API."""

    def __init__(self, backlogs: Backlogs, streams: Streams) -> None:
        self._answers = _Answers()
        self._registry = CollectorRegistry()
        self._registry.register(_Gauges(backlogs, streams))
        self._registry.register(self._answers)
        self._durations = Durations(self._registry)
        ProcessCollector(registry=self._registry)

    def claimed(self, replies: Iterable[ClaimReply]) -> None:
        """Count the answers to claims."""
        self._answers.claims.update((reply.answer.value,) for reply in replies)

    def reported(self, reports: Sequence[Report], done: Reported) -> None:
        """Count reports and their receipts, and the durations of runs and phases that ended."""
        pairs = list(zip(reports, done.receipts, strict=True))
        self._answers.reports.update((_kind(report), receipt.value) for report, receipt in pairs)
        for run in done.ended:
            self._durations.ended(run)
        for report, receipt in pairs:
            if report.events and receipt is ReportReceipt.ACCEPTED:
                self._durations.noted(report.events)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format. Blocks, because it reads the store."""
        return generate_latest(self._registry)


def _kind(report: Report) -> str:
    if report.kind is ReportKind.FINISH and report.state is not None:
        return report.state.value.lower()
    return "away" if report.away else report.kind.value


class _Answers(Collector):
    """Counters of answers to executors, by labels; updated by the event loop's thread alone."""

    def __init__(self) -> None:
        self.claims: Counter[tuple[str, ...]] = Counter()
        self.reports: Counter[tuple[str, ...]] = Counter()

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counters."""
        claims = CounterMetricFamily(
            "job_engine_claims",
            "Claims of executors that this process answered, by the answer.",
            labels=["answer"],
        )
        reports = CounterMetricFamily(
            "job_engine_reports",
            "Reports of executors that this process took: progress, success, failed, retry "
            "(a platform fault), away (the host of a repository), release (given back); and what "
            "became of them.",
            labels=["report", "receipt"],
        )
        for family, numbers in ((claims, self.claims), (reports, self.reports)):
            for labels, number in numbers.copy().items():
                family.add_metric(labels, number)
            yield family


class _Gauges(Collector):
    """Gauges of jobs and event streams, read when they are collected."""

    def __init__(self, backlogs: Backlogs, streams: Streams) -> None:
        self._backlogs = backlogs
        self._streams = streams

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read and yield the gauges."""
        seen = self._backlogs.look()
        jobs = GaugeMetricFamily(
            "job_engine_jobs",
            "Jobs in the store, by action and state. QUEUED is the backlog, RUNNING the busy "
            "threads. The action is empty for all actions that no executor has published.",
            labels=["action", "state"],
        )
        for (action, state), number in seen.jobs.items():
            jobs.add_metric([action, state], number)
        yield jobs
        pushed = GaugeMetricFamily(
            "job_engine_jobs_pushed",
            "QUEUED jobs that are in ZooKeeper's queue: the filled part of the window.",
            labels=["action"],
        )
        for action, number in seen.pushed.items():
            pushed.add_metric([action], number)
        yield pushed
        yield GaugeMetricFamily(
            "job_engine_oldest_queued_seconds",
            "Seconds since the oldest of the QUEUED jobs was created; 0: none waits.",
            value=seen.oldest_queued_s,
        )
        streams = GaugeMetricFamily(
            "job_engine_streams",
            "Event streams that are open to this process: `events` has one for each live "
            "executor, `changes` one for each distributor, `job` those who follow a job.",
            labels=["stream"],
        )
        for kind, number in self._streams.open_now().items():
            streams.add_metric([kind], number)
        yield streams
