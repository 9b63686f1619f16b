"""How tests of the lab call the command line."""

from __future__ import annotations

import sys

import pytest

import secateur.integrations
from secateur.lab.cli import run_command


def call(*arguments: str) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        run_command(list(arguments))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def without_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be as where neither ONNX Runtime nor OpenVINO is installed."""
    for name in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("secateur.integrations.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(secateur.integrations, "onnx", raising=False)
