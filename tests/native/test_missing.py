"""Without the compiled kernels everything else works, and what is missing is said."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import secateur as sc
from secateur import native
from secateur.vocabulary import MissingKernelsError


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an installation that had no compiler."""
    monkeypatch.setitem(sys.modules, "secateur.native._kernels", None)
    native._found.cache_clear()
    yield  # type: ignore[misc]
    native._found.cache_clear()


@pytest.mark.usefixtures("without")
def test_what_is_missing_is_said_with_the_way_out() -> None:
    assert not native.available()
    assert "C++17 compiler" in str(native.why_not())
    with pytest.raises(MissingKernelsError, match="make native"):
        native.load()


@pytest.mark.usefixtures("without")
def test_pruning_works_all_the_same() -> None:
    net = torch.nn.Linear(10, 10)
    masks = sc.prune(net, 0.9)
    assert masks.count() == (10, 100) and int((net.weight != 0).sum()) == 10
    assert sc.apply(net, sc.Masks({"weight": ~masks["weight"]})).sparsity == 0.1 and not net.weight.any()


@pytest.mark.skipif(not native.available(), reason="there is nothing to be older")
def test_kernels_of_other_sources_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_INTERFACE", -1)
    native._found.cache_clear()
    try:
        assert "other sources" in str(native.why_not())
    finally:
        native._found.cache_clear()


def test_the_environment_can_switch_them_off() -> None:
    code = "import secateur as sc; from secateur import native; print(native.why_not())"
    environment = {"SECATEUR_NATIVE": "0", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "SECATEUR_NATIVE=0" in done.stdout
