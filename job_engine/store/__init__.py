"""What is durable: jobs, their events and logs, and every other resource.

`base` has the abstract database with its value types, one file a backend, `factory`
picks one by URL. The repositories (`jobs`, `claims`, `feed`, `events`, …) are written
once, in SQLAlchemy Core expressions that every backend understands; `Store` in
`store.py` holds them together. What several of them do to jobs within their transactions
is in `inserts`, `changes` and `edits`; all tables are in `tables`.

What must hold: a write is durable before it returns (stored-first); every transition
of a job is one guarded statement with its event in the same transaction (one-outcome,
fenced); event ids become visible in order; no text of a client reaches SQL but as a
bound value.
"""
