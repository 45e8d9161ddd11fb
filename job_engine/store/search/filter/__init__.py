"""The CIMI filter language (docs/cimi.md §2): grammar, values, dates, SQL.

`parse_filter` parses a text into a flat tree, `compile_filter` compiles the tree to an SQL
condition. Text of the filter reaches SQL only as bound values. Quirks of the original that no
client relies on are corrected: a reversed comparison is turned round (`3<progress` is
`progress>3`), an unquoted incomplete date is that date, and parentheses have to balance inside
each filter.
"""

from job_engine.store.search.filter.compile import attributes_of, compile_filter
from job_engine.store.search.filter.nodes import Filter
from job_engine.store.search.filter.parser import join_filters, parse_filter

__all__ = ["Filter", "attributes_of", "compile_filter", "join_filters", "parse_filter"]
