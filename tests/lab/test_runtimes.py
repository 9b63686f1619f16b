"""Every runtime computes what torch computes; one that is missing or has nothing to do says so."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from commands import without_runtimes
from torch import nn

import secateur as sc
from secateur.lab import runtimes
from secateur.lab.contest import TOLERANCE, Entry, hold, line_up, relative_error
from secateur.lab.runtimes import COMPILED, CSR, ENGINE, ONNXRUNTIME, OPENVINO, TORCH, Runtime
from secateur.lab.timing import Pace

FAST = Pace(turns=2, seconds=1e-6)


def net() -> nn.Module:
    """A small network with all that the runtimes treat in ways of their own, pruned."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 36, 20, bias=False),
        nn.ReLU(),
        nn.Linear(20, 3),
    )
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    sc.prune(model, sparsity=0.7)
    return model.eval()


NEEDS = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}


@pytest.mark.parametrize("runtime", [TORCH, CSR, ONNXRUNTIME, OPENVINO, ENGINE], ids=lambda runtime: runtime.name)
@pytest.mark.parametrize("batch", [1, 5])
def test_outputs_agree_with_torch(runtime: Runtime, batch: int) -> None:
    library = NEEDS.get(runtime.name)
    if library and find_spec(library) is None:
        pytest.skip(f"needs {library}")
    model, before = net(), net().state_dict()
    lineup = line_up([Entry(runtime.name, runtime, model)], torch.randn(2, 2, 8, 8))
    assert not lineup.absent and not lineup.notes
    (row,) = hold(lineup, torch.randn(batch, 2, 8, 8), 1, FAST)
    assert row.error is not None and row.error < 1e-5 and not row.note
    assert row.ms is not None and row.ms[0] > 0 and (row.batch, row.threads) == (batch, 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_torch_runs_with_its_norms_folded() -> None:
    ready = TORCH.prepare(net(), torch.randn(2, 2, 8, 8))
    runner = ready.start(torch.randn(1, 2, 8, 8), 1)
    with torch.profiler.profile() as profile, torch.inference_mode():
        runner.output()
    names = {event.name for event in profile.events()}
    assert "aten::conv2d" in names and "aten::batch_norm" not in names


class Branching(nn.Module):
    """What torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(self.conv(x if x.sum() > 1e9 else 2 * x))
        return y


def test_norms_that_cannot_be_folded_are_said_so() -> None:
    lineup = line_up([Entry("torch", TORCH, Branching().eval())], torch.randn(2, 2, 8, 8))
    assert lineup.notes == ["torch: its batch norms are not folded, because torch.fx cannot trace the network"]
    assert hold(lineup, torch.randn(2, 2, 8, 8), 1, FAST)[0].ms


def test_a_linear_layer_alone_runs_as_sparse_rows() -> None:
    layer = nn.Linear(30, 20).eval()
    sc.prune(layer, sparsity=0.9)
    x = torch.randn(4, 7, 30)
    runner = CSR.prepare(layer, x).start(x, 1)
    with torch.inference_mode():
        torch.testing.assert_close(runner.output(), layer(x))


def test_sparse_rows_have_nothing_to_do_in_a_dense_network() -> None:
    lineup = line_up([Entry("torch CSR", CSR, nn.Linear(8, 8).eval())], torch.randn(2, 8))
    assert lineup.absent == {"torch CSR": "no linear layer of the network is sparse to a half or more"}


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without_runtimes(monkeypatch)
    entries = [Entry(runtime.name, runtime, net()) for runtime in (TORCH, ONNXRUNTIME, OPENVINO)]
    lineup = line_up(entries, torch.randn(2, 2, 8, 8))
    assert [each.name for each in lineup.contestants] == ["torch eager"]
    assert "pip install 'secateur[onnx]'" in lineup.absent["ONNX Runtime"]
    assert "pip install 'secateur[openvino]'" in lineup.absent["OpenVINO"]


def test_a_compiler_that_fails_is_named_and_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler found")

    monkeypatch.setattr(torch, "compile", failing)
    entries = [Entry(runtime.name, runtime, net()) for runtime in (TORCH, COMPILED)]
    first, second = hold(line_up(entries, torch.randn(2, 2, 8, 8)), torch.randn(2, 2, 8, 8), 1, FAST)
    assert first.ms and second.ms is None and second.note == "it fails (RuntimeError: no C++ compiler found)"


def test_a_compiled_network_is_started_before_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: model)
    lineup = line_up([Entry("torch.compile", COMPILED, net())], torch.randn(2, 2, 8, 8))
    assert hold(lineup, torch.randn(2, 2, 8, 8), 1, FAST)[0].ms


@pytest.mark.slow
def test_torch_compile_itself() -> None:
    lineup = line_up([Entry("torch.compile", COMPILED, net())], torch.randn(2, 2, 8, 8))
    (row,) = hold(lineup, torch.randn(2, 2, 8, 8), 1, FAST)
    assert row.ms and row.error is not None and row.error < 1e-5


def test_who_computes_something_else_is_not_timed() -> None:
    wrong = Runtime("wrong", lambda model, example: TORCH.prepare(nn.Sequential(model, nn.Softplus()), example))
    lineup = line_up([Entry("torch", TORCH, net()), Entry("wrong", wrong, net())], torch.randn(2, 2, 8, 8))
    first, second = hold(lineup, torch.randn(2, 2, 8, 8), 1, FAST)
    assert first.ms and second.ms is None and second.note == "its outputs are wrong"
    assert second.error is not None and second.error > TOLERANCE


class Narrow(nn.Module):
    """What computes in float32 only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.eye(8, dtype=torch.float32)


def test_a_network_that_knows_no_float64_is_timed_uncompared() -> None:
    (row,) = hold(line_up([Entry("torch", TORCH, Narrow())], torch.randn(2, 8)), torch.randn(2, 8), 1, FAST)
    assert row.ms and row.error is None and "compared with nothing" in row.note


def test_errors_are_shares_of_the_largest_output() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(3, 4))
    found = wanted + rng.normal(size=(3, 4)) * 1e-3
    assert relative_error(found, wanted) == np.max(np.abs(found - wanted)) / np.max(np.abs(wanted))
    assert relative_error(torch.from_numpy(wanted), wanted) == 0
    assert relative_error(np.full((3, 4), np.nan), wanted) == relative_error(wanted[:2], wanted) == float("inf")


def test_torchs_threads_are_put_back() -> None:
    seen = []

    def prepare(model: nn.Module, example: torch.Tensor) -> runtimes.Ready:
        def output() -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return torch.ones(1)

        return runtimes.Ready(lambda *_: runtimes.Runner(output, lambda count: [1.0] * count))

    before = torch.get_num_threads()
    lineup = line_up([Entry("a", Runtime("a", prepare), nn.Identity())], torch.ones(1))
    hold(lineup, torch.ones(1), before + 2, FAST)
    assert seen == [before + 2] and torch.get_num_threads() == before
