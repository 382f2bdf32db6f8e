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
