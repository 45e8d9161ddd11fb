"""Tables of all other resources, of uploads, actions, counters and secrets, and the audit trail."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table

from job_engine.store.tables.columns import BIG, DOCUMENT, INT, TEXT, metadata, partial_index

# Rights on resources other than jobs.
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
    # Unique within its type, such as a user's name.
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
# Each login deletes expired resources.
partial_index(
    "resources_expiring", resources.c.expires_ms, where=resources.c.expires_ms.is_not(None)
)

blobs: Final = Table(
    "blobs",
    metadata,
    Column("digest", TEXT, primary_key=True),
    # A row for each owner, so that no owner learns of another one with the same bytes.
    Column("owner", TEXT, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("media_type", TEXT, nullable=False),
    Column("name", TEXT),
    Column("created_ms", BigInteger, nullable=False),
    # For the total size of an owner's uploads.
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

# The audit trail; see `store/audit.py`.
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
