"""The routes: which path and method does what, by subject.

`cimi` has the resource types, `blobs` uploads and downloads, `submissions` what was handed in
with a job, `engine` and `messages` what
executors and distributors send, `events` and `job_stream` the event streams, `webhooks` the
delivery of webhooks, `greengrader` an upload form, and `health` the probes.
"""
