"""The messages between executors, distributors and the API.

They are JSON over HTTP, under `/api/engine/…`. Keys are the names of the fields, times are
epoch milliseconds, and durations are seconds.
"""
