"""Clusters of signal windows, live and without labels; see ``docs/architecture.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamclust.lab.clusterer import Clusterer as Clusterer

__version__ = "0.1.0"
__all__ = ["Clusterer", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `Clusterer` when it is first asked for (PEP 562): the package itself stays light."""
    if name == "Clusterer":
        from streamclust.lab.clusterer import Clusterer

        return Clusterer
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
