from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from streamclust.train.methods import METHODS, NAMES

ROOT = Path(__file__).parents[2]


def test_names_are_those_of_the_table():
    assert tuple(METHODS) == NAMES
    assert {"kmeans", "gmm", "dec", "idec", "umap_gmm", "manifold"} == set(NAMES)


def test_the_table_imports_nothing_that_only_some_methods_need():
    code = "import sys, streamclust.train.methods; print({'torch', 'sklearn', 'umap', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
