"""Every other resource, what the API keeps beside them, and who did what."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table

from job_engine.store.tables.columns import BIG, DOCUMENT, INT, TEXT, metadata, partial_index

# Who may do what with any other resource.
access: Final = Table(
    "access",
    metadata,
    Column("principal", TEXT, primary_key=True),
    Column("resource", TEXT, primary_key=True),
    Column("rights", INT, nullable=False),
    Index("access_resource", "resource"),
    sqlite_with_rowid=False,
)

resources: Final = Table(
    "resources",
    metadata,
    Column("id", TEXT, primary_key=True),
    Column("type", TEXT, nullable=False),
    # What makes it unique among its type, beside the id: a user's name, for one.
    Column("key", TEXT),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("document", DOCUMENT, nullable=False),
    # Password and key digests: never part of a document, so never shown.
    Column("secret", TEXT),
    Index("resources_key", "type", "key", unique=True),
    Index("resources_created", "type", "created_ms"),
)
# Every login looks for what has expired.
partial_index(
    "resources_expiring", resources.c.expires_ms, where=resources.c.expires_ms.is_not(None)
)

blobs: Final = Table(
    "blobs",
    metadata,
    Column("digest", TEXT, primary_key=True),
    # One row an owner: nobody learns that somebody else uploaded the same bytes.
    Column("owner", TEXT, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("media_type", TEXT, nullable=False),
    Column("name", TEXT),
    Column("created_ms", BigInteger, nullable=False),
    # What each owner has, all together.
    Index("blobs_owner", "owner", "size"),
)

actions: Final = Table(
    "actions",
    metadata,
    Column("name", TEXT, primary_key=True),
    Column("description", DOCUMENT, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
)

counters: Final = Table(
    "counters",
    metadata,
    Column("name", TEXT, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

secrets: Final = Table(
    "secrets",
    metadata,
    Column("name", TEXT, primary_key=True),
    Column("value", TEXT, nullable=False),
)

# Who asked for what, beside the feed of `events`: `audit.py` says what is told, and how long.
audit: Final = Table(
    "audit",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("resource", TEXT),
    Column("user_id", TEXT),
    Column("document", DOCUMENT, nullable=False),
    Index("audit_at", "at_ms"),
    Index("audit_resource", "resource"),
    Index("audit_user", "user_id"),
    sqlite_autoincrement=True,
)
