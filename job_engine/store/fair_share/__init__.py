"""Fair share: which job is pushed next, and estimates of waiting times.

`fairness` keeps the virtual times of shares, `turns` computes the order of turns, `refill`
chooses the jobs to push, `shares` keeps the weights, and `estimate` (with `waiting` and `starts`)
estimates the queue position and waiting time of a job. See decision 8 in docs/decisions.
"""
