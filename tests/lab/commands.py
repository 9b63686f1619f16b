"""How tests of the lab call the command line."""

from __future__ import annotations

import pytest

from secateur.lab.cli import run_command


def call(*arguments: str) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        run_command(list(arguments))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code
