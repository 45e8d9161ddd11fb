"""The CIMI filter language (docs/cimi.md §2): grammar, values, dates, SQL.

`parse_filter` makes a flat tree of a text, `compile_filter` makes a condition of it.
Nothing of the text reaches SQL but as a bound value. Where the language has quirks
that no client relies on, this does the obvious instead: a reversed comparison is
turned round (`3<progress` is `progress>3`), an unquoted incomplete date is the date it
looks like, and parentheses have to balance inside each filter.
"""

from job_engine.store.search.filter.compile import attributes_of, compile_filter
from job_engine.store.search.filter.nodes import Filter
from job_engine.store.search.filter.parser import join_filters, parse_filter

__all__ = ["Filter", "attributes_of", "compile_filter", "join_filters", "parse_filter"]
