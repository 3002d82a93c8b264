"""What chat templates may use: filters and methods whose cost is known before they run."""

from __future__ import annotations

from collections.abc import Mapping, Set

__all__ = ["COMPARING_TESTS", "FILTERS", "METHODS", "SHALLOW"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Jinja's filters, less those without a bound (urlize, wordwrap, striptags) and the random one.
FILTERS = _words(
    """
    abs attr batch capitalize center count d default dictsort e escape filesizeformat first float forceescape format
    groupby indent int items join last length list lower map max min pprint reject rejectattr replace reverse round safe
    select selectattr slice sort string sum title tojson trim truncate unique upper urlencode wordcount xmlattr
    """
)
# Those that look at a list's length, not into it.
SHALLOW = {"attr", "batch", "count", "d", "default", "first", "items", "last", "length", "list", "map", "reject"}
SHALLOW |= {"rejectattr", "reverse", "select", "selectattr", "slice"}
COMPARING_TESTS = ("in", "eq", "==", "equalto", "ne", "!=", "lt", "<", "lessthan", "le", "<=", "gt", ">", "ge", ">=")
METHODS: Mapping[type, Set[str]] = {
    str: _words(
        """
        capitalize casefold center count endswith expandtabs find format format_map index isalnum isalpha isascii
        isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip
        partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines
        startswith strip swapcase title upper zfill
        """
    ),
    dict: {"copy", "get", "items", "keys", "values"},
    list: {"copy", "count", "index"},
    tuple: {"count", "index"},
    float: {"is_integer"},
    int: {"bit_length"},
}
