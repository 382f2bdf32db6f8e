"""How results are shown wherever they are: the colours of clusters, and cells of tables that no spreadsheet runs."""

from __future__ import annotations

from typing import Any, Final

COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442")
"""Okabe and Ito (2008), without black; the page has the same."""


def colour(at: int) -> str:
    """Return the colour of the cluster in this place, from 0; colours come again after seven.

    >>> colour(0) == colour(7) == "#0072b2"
    True
    """
    return COLOURS[at % len(COLOURS)]


def cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula, whatever the text in it (OWASP, CSV injection).

    >>> cell("=1+1"), cell("C7"), cell(-0.5), cell(True)
    ("'=1+1", 'C7', -0.5, 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return f"'{value}"
    return value
