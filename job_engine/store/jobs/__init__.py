"""Jobs in the store, with a module for each party that works on them.

`repository` is for API clients, `feed` and `schedule` for distributors, `claims` and `reports`
for executors, `foreign` for consumers without a fence, and `expiry` fails expired jobs. All of
them write through `inserts` and `changes`, which update in the same transaction what depends on
a job: its events (`events`), callbacks (`outbox`), and the number of jobs (`tally`).

What must hold: every change of state is one statement whose condition is the state, and the fence
if there is a claim, on which it was decided (one-outcome, fenced).
"""
