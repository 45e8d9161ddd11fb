"""Searching all collections: filter, order, page, count and aggregate.

`query` answers a search, `source` describes the collections and who may see their rows, `filter`
parses CIMI filters and compiles them to SQL, `aggregate` computes aggregations, `job_counts`
counts jobs without reading them, and `json_paths` has the SQL that differs between databases. A
client's text reaches SQL only as a bound value.
"""
