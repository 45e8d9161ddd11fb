"""Access control as rows and SQL conditions, which restrict what a search returns.

`grants` holds the rights on single resources, `audiences` those on jobs, which are many
and share few access control lists, and `executor_scope` what an executor may read for the jobs
that it runs. Whether one document may be changed is decided in `job_engine.api.access`.
"""
