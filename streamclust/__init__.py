"""Clusters of signal windows, live and without labels; see ``docs/architecture.md``."""

__version__ = "0.1.0"
