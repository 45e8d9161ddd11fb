"""Jobs in the store, with a module for each party that works on them.

`repository` is for API clients, `feed` and `schedule` for distributors, `claims` and `reports`
for executors, `foreign` for consumers without a fence, and `expiry` fails expired jobs. New jobs
are written by `inserts`; edits, cancels and deletions by `changes`; the other modules have
statements of their own. All update in the same transaction what depends on a job: its events
(`events`), callbacks (`outbox`), and the number of jobs (`tally`).

What must hold: a change of state is one statement. Its condition is what was decided on: the old
state and, if the job is claimed, the fence (one-outcome, fenced).
"""
