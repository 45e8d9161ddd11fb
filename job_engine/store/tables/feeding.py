"""How jobs come to their turn: shares, their lanes, what was started, and when."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Table

from job_engine.store.tables.columns import INT, TEXT, metadata

# Fair share; `fair_share/fairness.py` says how these three belong together. A share without a row
# has the weight 1. Virtual times are seconds of one thread over the share's weight.
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
    # The same by what runs really took, without what is still waiting or running.
    Column("settled_s", Float, nullable=False),
    # False: nothing waits in it; kept while the share is ahead of the others.
    Column("ready", Boolean, nullable=False),
    Index("lanes_order", "action", "ready", "priority", "virtual_s", "share", "version"),
    sqlite_with_rowid=False,
)

# How far the shares of a queue have come: where one that had nothing waiting joins in.
frontiers: Final = Table(
    "frontiers",
    metadata,
    Column("action", TEXT, primary_key=True),
    Column("priority", INT, primary_key=True),
    Column("virtual_s", Float, nullable=False),
)

# Jobs that were started, by slots of time: what waiting times are estimated from.
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
