"""Deliveries of webhooks, as the action that sends them sees them.

`deliveries` hands out messages and takes in results, `results` writes what became of each,
and `turns` chooses whose message is next. The messages themselves are written with the
change of a job that they report, in `job_engine.store.jobs.outbox`.
"""
