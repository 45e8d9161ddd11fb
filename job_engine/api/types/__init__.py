"""The resource types, one file each; `registry.py` lists them.

`base.py` has what every type can do, `stored.py` the types whose documents are in the
generic table: a further one of those is a class with a schema and the lists of who may
query, add and bulk-delete.
"""
