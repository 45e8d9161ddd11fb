"""What is durable: jobs with their events and logs, and every other resource.

`base` has the abstract database and its value types, `sqlite/` and `postgres/` are its
backends, and `factory` picks one by URL. The repositories are written once, in SQLAlchemy
Core expressions that both databases understand; `Store` in `store.py` holds them together.

| subject | where |
|---|---|
| jobs: create, push, claim, report, expire | `jobs/` |
| which job is next, and estimates of waiting | `fair_share/` |
| access rights, as SQL conditions | `access/` |
| filter, order, page, count | `search/` |
| webhooks that wait to be sent | `webhooks/` |
| users, sessions, assignments and other documents | `resources`, `audit` |
| uploads | `blobs`, `blob_files` |
| what executors publish, numbers drawn once | `actions`, `counters` |
| tables, and their migrations | `tables/`, `migrate`, `migrations/` |
| statements run fast, commits shared | `prepared`, `pipeline`, `group_commit` |

What must hold: a write is durable before it returns (stored-first); every transition
of a job is one guarded statement with its event in the same transaction (one-outcome,
fenced); event ids become visible in order; a client's text reaches SQL only as a bound value.
"""
