"""Searching every collection alike: filter, order, page, count and aggregate.

`query` answers a search, `source` says which collections there are and who sees what of
them, `filter` parses CIMI filters and compiles them to SQL, `aggregate` computes over what
matches, `job_counts` counts jobs without reading them, and `json_paths` holds what each
database writes differently. No text of a client reaches SQL but as a bound value.
"""
