"""DeepSparse as a runtime like the lab's own: a process of another Python that takes its turn when it is told to."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.lab.runtimes import Ready, Runner, Runtime
from secateur.vocabulary import SecateurError

WORKER = Path(__file__).with_name("engine_deepsparse.py")
OPSET = 14  # DeepSparse 1.8 knows no newer operators


class Worker:
    """The other process.

    Raises:
        SecateurError: it ended; the text is the end of what it said.
    """

    def __init__(self, command: list[str]) -> None:
        # Without a network there is nobody to tell how it is used.
        variables = {**os.environ, "NM_DISABLE_ANALYTICS": "1"}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=variables
        )
        self.version = self.answer()

    def ask(self, line: str) -> Any:
        """Send a line and return what is answered."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        """Wait for a line of JSON."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        self.errors.seek(0)
        raise SecateurError(f"the process of DeepSparse ended: {self.errors.read()[-300:].decode(errors='replace')}")

    def close(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def deepsparse(python: Path, stack: contextlib.ExitStack) -> Runtime:
    """Return DeepSparse of another Python; processes and files last until the stack is closed."""

    def prepare(model: nn.Module, example: Tensor) -> Ready:
        def start(inputs: Tensor, threads: int) -> Runner:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            exported, given, output = (folder / name for name in ("model.onnx", "inputs.npy", "output.npy"))
            _export(model, inputs, exported)
            np.save(given, inputs.numpy())
            worker = Worker([str(python), str(WORKER), str(exported), str(given), str(output), str(threads)])
            stack.callback(worker.close)

            def computed() -> Any:
                worker.ask("output")
                return np.load(output)

            return Runner(computed, lambda count: list(worker.ask(f"go {count}")))

        return Ready(start)

    return Runtime("DeepSparse", prepare)


def _export(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """Write an ONNX file as old as DeepSparse wants it."""
    with warnings.catch_warnings(), torch.inference_mode(False):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (inputs.clone(),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["x"],
            output_names=["y"],
        )
