"""Tables of the feed: shares, lanes, frontiers, started jobs, and schedules."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Table

from job_engine.store.tables.columns import INT, TEXT, metadata

# Fair share: `fair_share/fairness.py` describes how the next three tables are used. A share
# without a row has the weight 1. Virtual times are thread seconds over the share's weight.
shares: Final = Table(
    "shares",
    metadata,
    Column("name", TEXT, primary_key=True),
    Column("weight", Float, nullable=False),
)

lanes: Final = Table(
    "lanes",
    metadata,
    Column("action", TEXT, primary_key=True),
    Column("priority", INT, primary_key=True),
    Column("share", TEXT, primary_key=True),
    Column("version", INT, primary_key=True),
    Column("virtual_s", Float, nullable=False),
    # Virtual time of ended runs alone, by the seconds that they took.
    Column("settled_s", Float, nullable=False),
    # False: no job waits in it; the row is kept while the share is ahead of the others.
    Column("ready", Boolean, nullable=False),
    Index("lanes_order", "action", "ready", "priority", "virtual_s", "share", "version"),
    sqlite_with_rowid=False,
)

# The virtual time that the shares of a queue have reached, at which an idle share joins.
frontiers: Final = Table(
    "frontiers",
    metadata,
    Column("action", TEXT, primary_key=True),
    Column("priority", INT, primary_key=True),
    Column("virtual_s", Float, nullable=False),
)

# Number of jobs started in each time slot, for estimates of waiting times.
starts: Final = Table(
    "starts",
    metadata,
    Column("action", TEXT, primary_key=True),
    Column("slot", BigInteger, primary_key=True),
    Column("count", INT, nullable=False),
    sqlite_with_rowid=False,
)

schedules: Final = Table(
    "schedules",
    metadata,
    Column("action", TEXT, primary_key=True),
    Column("last_tick_ms", BigInteger, nullable=False),
)
