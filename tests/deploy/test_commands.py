"""Every command line that is shipped is one that the program knows."""

from __future__ import annotations

import pytest
from deploys import commands

from streamclust.cli import parser

SHIPPED = list(commands())


@pytest.mark.parametrize(("where", "arguments"), SHIPPED, ids=[where for where, _ in SHIPPED])
def test_the_program_knows_the_command_line(where, arguments):
    assert callable(parser().parse_args(arguments).command), where


def test_none_is_forgotten():
    found = {where for where, _ in SHIPPED}

    assert found >= {
        "streamclust.service",
        "streamclust-retrain.service",
        "compose publisher",
        "compose trainer",
        "kubernetes streamclust",
        "kubernetes streamclust-trainer",
        "Dockerfile CMD",
    }
