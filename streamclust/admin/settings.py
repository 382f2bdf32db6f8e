"""What the commands of people who run daemons need of the settings."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamclust.config import Loaded


def load(args: argparse.Namespace) -> Loaded:
    """Read the settings of ``-c`` and the environment."""
    from streamclust.config import load

    return load(args.config, os.environ)


def state_dir(args: argparse.Namespace) -> Path:
    """Return the state directory of the configured daemon."""
    return Path(load(args).config.state.dir)


def one_thread() -> None:
    """Let linear algebra use one thread: a worker is one core, and small products only lose by more."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def version_argument(
    sub: argparse.ArgumentParser, name: str = "version", metavar: str = "N", text: str = "version"
) -> None:
    """Add the number of a version."""
    sub.add_argument(name, type=_version, metavar=metavar, help=text)


def _version(text: str) -> int:
    """Argument type: a whole number > 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {text})")
    return value


def who() -> str:
    """Return the name of the person at the terminal, for journals."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
