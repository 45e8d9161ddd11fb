"""What executors, distributors and the API say to each other, as typed messages.

All of it is JSON over HTTP under `/api/engine/…`; names on the wire are those of
the fields. Times are epoch milliseconds, durations seconds.
"""
