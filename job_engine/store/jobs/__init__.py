"""Jobs in the store, one module for each party that works on them.

`repository` is what API clients do, `feed` and `schedule` what distributors do, `claims`
and `reports` what executors do, `foreign` what consumers without a fence do, `expiry` what
time does. All of them write through `inserts` and `changes`, which keep in the same
transaction what depends on a job: its events (`events`), callbacks (`outbox`), and the
number of jobs (`tally`).

What must hold: every change of state is one statement that names the state, and where
there is a claim the fence, that it was decided on (one-outcome, fenced).
"""
