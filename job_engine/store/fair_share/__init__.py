"""Fair share: whose job is pushed next, and how long a job will wait for its turn.

`fairness` keeps the virtual times of shares, `turns` is the arithmetic of dealing turns
out, `refill` chooses the jobs to push, `shares` keeps the weights, and `estimate` (with
`waiting` and `starts`) says where a job stands in line. See decision 8 in docs/decisions.
"""
