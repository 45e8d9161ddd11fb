"""The resource types, one file each; `registry.py` finds them.

`base.py` has the abstract type. `stored.py` has the base class of types whose documents are
in the generic table: a new one is a class with a schema and the claims that may query, add
and delete in bulk (docs/resource-types.md). `job_create` belongs to `job`, and `logins` and
`templates` to `session`.
"""
