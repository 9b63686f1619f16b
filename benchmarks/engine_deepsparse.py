"""DeepSparse behind a pipe for ``engine.py``: runs in an environment of its own, which has numpy and deepsparse alone.

    python benchmarks/engine_deepsparse.py MODEL.onnx INPUTS.npy OUTPUT.npy THREADS

Told ``go N`` it answers the seconds of N calls, told ``output`` it writes what it computes. Answers are lines of JSON
with an @ in front, because DeepSparse greets on the same pipe.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def answer(value: Any) -> None:
    """Write one line."""
    print(f"@{json.dumps(value)}", flush=True)


def main() -> None:
    """Answer until the pipe is closed."""
    import deepsparse
    import numpy as np

    model, inputs, output, threads = sys.argv[1:]
    given = [np.load(inputs)]
    engine = deepsparse.Engine(model=model, batch_size=len(given[0]), num_cores=int(threads))
    engine.run(given)
    answer(deepsparse.__version__)
    for line in sys.stdin:
        if line.strip() == "output":
            np.save(output, engine.run(given)[0])
            answer("written")
            continue
        engine.run(given)
        seconds = []
        for _ in range(int(line.split()[1])):
            start = time.perf_counter()
            engine.run(given)
            seconds.append(time.perf_counter() - start)
        answer(seconds)


if __name__ == "__main__":
    main()
