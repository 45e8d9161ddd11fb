"""The `Store`, which holds every repository over one database."""

from __future__ import annotations

from job_engine.store.actions import Actions
from job_engine.store.audit import Audit
from job_engine.store.base import Clock, Database, system_clock_ms
from job_engine.store.blobs import Blobs
from job_engine.store.counters import Counters
from job_engine.store.fair_share.estimate import Estimates
from job_engine.store.fair_share.shares import Shares
from job_engine.store.jobs.backlog import Backlogs
from job_engine.store.jobs.claims import Claims
from job_engine.store.jobs.events import Events
from job_engine.store.jobs.expiry import Expiry
from job_engine.store.jobs.feed import Feed
from job_engine.store.jobs.foreign import ForeignRuns
from job_engine.store.jobs.idempotency import Idempotency
from job_engine.store.jobs.logs import Logs
from job_engine.store.jobs.repository import Jobs
from job_engine.store.jobs.schedule import Schedules
from job_engine.store.resources import Resources
from job_engine.store.webhooks.deliveries import Deliveries


class Store:
    """All repositories over one database; safe to use from many threads.

    It is opened by `start` and closed by `stop`.
    """

    def __init__(self, database: Database, clock: Clock = system_clock_ms) -> None:
        self.database = database
        self.clock = clock
        self.jobs = Jobs(database, clock)
        self.claims = Claims(database, clock)
        self.feed = Feed(database, clock)
        self.foreign = ForeignRuns(database, clock)
        self.schedules = Schedules(database, clock)
        self.expiry = Expiry(database, clock)
        self.idempotency = Idempotency(database, clock)
        self.estimates = Estimates(database, clock)
        self.backlogs = Backlogs(database, clock)
        self.shares = Shares(database)
        self.events = Events(database)
        self.logs = Logs(database)
        self.resources = Resources(database, clock)
        self.deliveries = Deliveries(database, clock)
        self.blobs = Blobs(database, clock)
        self.actions = Actions(database, clock)
        self.counters = Counters(database, clock)
        self.audit = Audit(database, clock)

    def start(self) -> None:
        """Open the database, creating or upgrading its schema. Raises `StoreError`."""
        self.database.start()

    def stop(self) -> None:
        """Finish pending writes and close."""
        self.database.stop()
