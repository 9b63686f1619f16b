"""A process that loads a network, runs it once and says how much memory it took at most: called by ``engine.py``.

    python benchmarks/engine_memory.py engine FILE | onnx FILE | torch NET

Prints JSON: the most bytes that were resident, and whether torch was imported.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np


def peak() -> int:
    """Return the most bytes that were resident since this program began."""
    status = Path("/proc/self/status")
    if status.exists():  # what the kernel tells of children may be of the process that started them
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    kilobytes = sys.platform != "darwin"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if kilobytes else 1)


def run_engine(path: str) -> None:
    """Run an engine file."""
    from secateur.engine import load

    engine = load(path)
    engine.run({name: np.zeros((1, *engine.plan.values[name].shape), np.float32) for name in engine.plan.inputs})


def run_onnx(path: str) -> None:
    """Run an ONNX file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    session.run(None, {given.name: np.zeros((1, *given.shape[1:]), np.float32)})


def run_torch(name: str) -> None:
    """Run a network of the benchmark in torch."""
    import engine_nets
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        engine_nets.build(name)(torch.zeros(1, *engine_nets.shape(name)))


if __name__ == "__main__":
    what, argument = sys.argv[1:]
    {"engine": run_engine, "onnx": run_onnx, "torch": run_torch}[what](argument)
    print(json.dumps({"bytes": peak(), "torch": "torch" in sys.modules}))
