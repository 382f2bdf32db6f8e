"""How fast the encoder runs in ONNX Runtime against torch, and what a process pays to start either."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import arguments, seconds_of, show
from numpy.typing import NDArray

from streamclust.model.encoder import Encoder, load
from streamclust.train.nets import PyramidNet
from streamclust.train.recipe import Pyramid

SHAPE = (65, 63)
"""Of the spectrogram of profile seismic."""
BATCHES = (1, 16, 128)
SIZES = {"channels": (16, 32, 48), "strides": (2, 2, 2), "grid": (4, 8), "dimensions": 128}
"""Of the shipped encoder (recipes/seismic.yaml); with what weights torch runs says nothing of its speed."""
PARTS = {
    "ONNX Runtime": f"""
import numpy as np
from streamclust.model.encoder import Encoder, load
Encoder(load("seismic"), {SHAPE})(np.zeros((1, 1, *{SHAPE}), np.float32))
""",
    "torch": f"""
import torch
from streamclust.train.nets import PyramidNet
from streamclust.train.recipe import Pyramid
with torch.no_grad():
    PyramidNet(Pyramid(**{SIZES})).eval()(torch.zeros((1, 1, *{SHAPE})))
""",
}
MEASURED = """
import json, time
began = time.perf_counter()
{body}
seconds = time.perf_counter() - began
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([seconds, int(status["VmHWM"].split()[0]) / 1024]))
"""


def measure(runs: int = 5) -> list[dict[str, Any]]:
    """Return windows a second of both, by the size of the batch; one thread each."""
    torch.set_num_threads(1)
    encoder, net = Encoder(load("seismic"), SHAPE), PyramidNet(Pyramid(**SIZES)).eval()  # type: ignore[arg-type] — tuples of numbers
    rows = []
    for batch in BATCHES:
        x = np.random.default_rng(0).normal(size=(batch, 1, *SHAPE)).astype(np.float32)
        repeats = max(1, 256 // batch)
        speeds = {}
        for name, once in (("ONNX Runtime", lambda x=x: encoder(x)), ("torch", lambda x=x: _by_torch(net, x))):
            speeds[name] = repeats * batch / seconds_of(_many(once, repeats), runs)
        ratio = round(speeds["ONNX Runtime"] / speeds["torch"], 1)
        rows.append({"batch": batch, **{n: round(v) for n, v in speeds.items()}, "ratio": ratio})
    return rows


def measure_start() -> list[dict[str, Any]]:
    """Return seconds and peak memory of a fresh process up to its first window."""
    found = []
    for name, body in PARTS.items():
        code = MEASURED.format(body=body)
        runs = [
            json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
            for _ in range(3)
        ]  # fmt: skip — one run a line
        seconds, memory = np.median(np.array(runs), axis=0)
        found.append(
            {"process": name, "start and first window, s": round(float(seconds), 2), "peak MB": round(float(memory))}
        )
    return found


def _by_torch(net: Callable[[torch.Tensor], torch.Tensor], x: NDArray[np.float32]) -> None:
    with torch.no_grad():
        net(torch.from_numpy(x))


def _many(once: Callable[[], object], repeats: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(repeats):
            once()

    return work


if __name__ == "__main__":
    options = arguments(__doc__, runs=5)
    show("Encoder `seismic`, windows/s on one thread", measure(options.runs), as_json=options.json)
    show("A fresh process up to its first window", measure_start(), as_json=options.json)
