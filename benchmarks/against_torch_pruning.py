"""Secateur against Torch-Pruning: what each can follow, seconds, multiply-adds and latency, and what survives.

Needs both in one environment:

    pip install torch-pruning==1.6.1
    python benchmarks/against_torch_pruning.py          (about three minutes on two cores)

Writes ``benchmarks/results/against_torch_pruning.md``. The small networks are those of ``tests/shrink/zoo.py``.
"""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import io
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import markdown, paragraph
from torch import nn

import secateur as sc
from secateur.files import write_text
from secateur.lab import models
from secateur.lab.environment import environment
from secateur.vocabulary import SelectionError

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "shrink"))
zoo: Any = importlib.import_module("zoo")

RESULTS = Path(__file__).parent / "results"
LARGE = {"lenet-5": (1, 28), "resnet-18": (3, 32), "resnet-50": (3, 32), "vgg-16-bn": (3, 32), "mobilenet-v1": (3, 32)}
HEADS = {  # Torch-Pruning is told of heads, as its documentation asks
    "pre-norm, grouped queries": {"attention.q": 4, "attention.k": 2, "attention.v": 2},
    "pre-norm, by hand": {"attention.q": 4, "attention.k": 2, "attention.v": 2},
    "pre-norm, all heads": {"attention.q": 4, "attention.k": 4, "attention.v": 4},
    "packed": {"qkv": 4},
    "rotary": {"q": 3, "k": 3, "v": 3},
}
Net = tuple[nn.Module, Any]


def nets() -> dict[str, Callable[[], Net]]:
    """Return what makes every network with its example, by name."""
    made: dict[str, Callable[[], Net]] = {name: partial(_small, name) for name in zoo.ZOO}
    return made | {name: partial(_large, name) for name in LARGE}


def _small(name: str) -> Net:
    model, example = zoo.build(name)

    def to(leaf: torch.Tensor) -> torch.Tensor:
        return leaf.float() if leaf.is_floating_point() else leaf

    return model.float(), torch.utils._pytree.tree_map(to, example)


def _large(name: str) -> Net:
    torch.manual_seed(0)
    channels, side = LARGE[name]
    shape = channels, side, side
    return models.build(name, shape, 10).eval(), torch.randn(1, *shape)


def call(model: nn.Module, example: Any) -> Any:
    """Run a network on its example."""
    return model(**example) if isinstance(example, dict) else model(example)


def ours(model: nn.Module, example: Any, optimizer: torch.optim.Optimizer, name: str) -> nn.Module:
    """Prune and shrink to half the multiply-adds with Secateur."""
    choice = sc.UnitChoice(sc.couple(model, example), scope=sc.PerTensor(), multiple=8 if name in LARGE else 1)
    if not choice.groups:
        return model
    try:
        sc.prune_units(model, example, target={"macs": 0.5}, choice=choice)
    except SelectionError:  # out of reach: as far as it goes
        sc.prune_units(model, example, 0.99, choice=choice)
    return sc.shrink(model, example, optimizer=optimizer)


def theirs(model: nn.Module, example: Any, optimizer: torch.optim.Optimizer, name: str) -> nn.Module:
    """Prune to half the multiply-adds with Torch-Pruning, by bisection over its ratio; the best try is made again."""
    import torch_pruning as tp  # type: ignore[import-not-found,unused-ignore]

    outputs = _output_layers(model, example)
    before = macs(model, example)

    def prune(net: nn.Module, ratio: float) -> nn.Module:
        heads = {net.get_submodule(layer): count for layer, count in HEADS.get(name, {}).items()}
        pruner = tp.pruner.BasePruner(
            net,
            example,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[net.get_submodule(layer) for layer in outputs],
            num_heads=heads,
            round_to=8 if name in LARGE else None,
        )
        pruner.step()
        with torch.no_grad():
            call(net, example)
        return net

    low, high = 0.0, 1.0
    for _ in range(5):
        middle = (low + high) / 2
        if macs(prune(copy.deepcopy(model), middle), example) <= before / 2:
            high = middle
        else:
            low = middle
    return prune(model, high if high < 1 else 0.5)


def _output_layers(model: nn.Module, example: Any) -> list[str]:
    written: dict[str, None] = {}
    for group in sc.couple(model, example).groups:
        if group.whole == "an output of the model":
            written |= {axis.name.rpartition(".")[0]: None for axis in group.axes if axis.role == "writes"}
    return list(written)


def macs(model: nn.Module, example: Any) -> int:
    """Count multiply-adds of a network, pruned by either, with one counter."""
    counted = sc.couple(model, example).positions
    return sum(counted[name] * p.numel() for name, p in model.named_parameters() if name in counted)


def attempt(prune: Callable[..., nn.Module], make: Callable[[], Net], name: str) -> dict[str, Any]:
    """Prune one network; return what came of it."""
    model, example = make()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    _step(model, example, optimizer)
    model.eval()
    before, tied = macs(model, example), _tied(model)
    start = time.perf_counter()
    try:
        small = prune(model, example, optimizer, name)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            call(small, example)
        left = macs(small, example) / before
    except Exception as error:
        return {"status": f"{type(error).__name__}", "net": None}
    return {
        "status": "whole" if left > 0.99 else f"{left:.2f}",
        "seconds": seconds,
        "net": small,
        "example": example,
        "optimizer": _survives(small, example, optimizer),
        "tied": tied == _tied(small) if tied else None,
        "file": _saved(small, make()[0], example, prune is ours),
    }


def _step(model: nn.Module, example: Any, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    outputs = torch.utils._pytree.tree_leaves(call(model, example))
    sum(out.float().square().mean() for out in outputs).backward()
    optimizer.step()
    optimizer.zero_grad()


def _tied(model: nn.Module) -> int:
    every = list(model.named_parameters(remove_duplicate=False))
    return len(every) - len({id(parameter) for _, parameter in every})


def _survives(small: nn.Module, example: Any, optimizer: torch.optim.Optimizer) -> bool:
    """Say if the optimizer made before goes on training the net, its moments with it."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    moments = all(
        optimizer.state[p]["exp_avg"].shape == p.shape
        for p in small.parameters()
        if id(p) in held and p in optimizer.state
    )
    if not moments or any(id(p) not in held for p in small.parameters()):
        return False
    try:
        _step(small, example, optimizer)
    except Exception:
        return False
    return True


def _saved(small: nn.Module, fresh: nn.Module, example: Any, own: bool) -> bool:
    """Say if the net can be written and read into a fresh instance of its class without unpickling code."""
    small.eval()
    try:
        if own:
            with tempfile.TemporaryDirectory() as folder:
                sc.pack(small, Path(folder) / "net.sct")
                again = sc.unpack(Path(folder) / "net.sct", into=fresh)
        else:
            import torch_pruning as tp

            file = io.BytesIO()
            torch.save(tp.state_dict(small), file)
            file.seek(0)
            again = fresh
            tp.load_state_dict(again, state_dict=torch.load(file, weights_only=True))
        again.eval()
        with torch.no_grad():
            pairs = zip(*(torch.utils._pytree.tree_leaves(call(net, example)) for net in (small, again)), strict=True)
            return all(torch.equal(a, b) for a, b in pairs)
    except Exception:
        return False


def latency(name: str, found: dict[str, dict[str, Any]]) -> str:
    """Time the dense net and both pruned ones in turn; return how many times faster each is."""
    dense, example = nets()[name]()
    dense.eval()
    calls = [dense, *(found[who]["net"] for who in ("ours", "theirs") if found[who]["net"] is not None)]
    turns: list[list[float]] = []
    torch.set_num_threads(1)
    with torch.inference_mode():
        for turn in range(45):
            times = []
            for net in calls:
                start = time.perf_counter()
                call(net, example)
                times.append(time.perf_counter() - start)
            if turn >= 5:
                turns.append([times[0] / each for each in times[1:]])
    columns = [f"{statistics.median(column):.2f}" for column in zip(*turns, strict=True)]
    return " / ".join(columns)


def main() -> None:
    """Prune every network with both and write the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    rows: list[list[str]] = []
    for name, make in nets().items():
        found = {"ours": attempt(ours, make, name), "theirs": attempt(theirs, make, name)}
        timed = latency(name, found) if name in LARGE and found["theirs"]["net"] is not None else "-"
        cells = [_pair(found, key) for key in ("status", "seconds", "optimizer", "tied", "file")]
        rows.append([name, *cells, timed])
        print(*rows[-1], sep=" | ", flush=True)
    machine = environment()
    followed = {
        who: sum(_followed(row, place) for row in rows) for place, who in enumerate(("Secateur", "Torch-Pruning"))
    }
    made = f"""Made by `python benchmarks/against_torch_pruning.py` on {machine["date"]}: {machine["processor"]};
        secateur {machine["secateur"]}, torch-pruning {importlib.metadata.version("torch-pruning")},
        torch {machine["torch"]}, Python {machine["python"]}; float32, seed 0."""
    read = f"""Both prune to half the multiply-adds by magnitude, layer by layer, by bisection over their own ratio;
        multiply-adds are counted by one counter. Each cell is Secateur / Torch-Pruning. "Left" is the share of
        multiply-adds left, *whole* where nothing was removed, or the error; a share other than 0.5 is as near as it
        came. Of {len(rows)} networks Secateur pruned {followed["Secateur"]}, Torch-Pruning {followed["Torch-Pruning"]}.
        Seconds are those of the whole call, tracing and bisection included. "Optimizer": the Adam made before goes on,
        its moments cut along. "File": written and read into a fresh instance without unpickling code (Secateur: `pack`
        and `unpack`; Torch-Pruning: its `state_dict` with `weights_only=True`), with equal outputs. "Faster": dense
        latency over that of the pruned net, batch 1, one thread, in turn; the five large nets keep multiples of 8
        channels on both sides."""
    differ = """Torch-Pruning also cuts widths that LayerNorm runs over and parts of heads; these change what the rest
        of the net computes, so Secateur leaves them whole. It is told of heads where there are any, and of output
        layers, which Secateur finds by itself."""
    head = ["net", "left", "seconds", "optimizer goes on", "tied weights stay tied", "file", "times faster"]
    parts = ["# Against Torch-Pruning", *map(paragraph, (made, read, differ)), markdown(head, rows)]
    write_text(RESULTS / "against_torch_pruning.md", "\n\n".join(parts) + "\n")


def _pair(found: dict[str, dict[str, Any]], key: str) -> str:
    return " / ".join(_shown(found[who].get(key)) for who in ("ours", "theirs"))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}" if isinstance(value, float) else "-" if value is None else str(value)


def _followed(row: list[str], place: int) -> bool:
    status = row[1].split("/")[place].strip()
    return status.replace(".", "").isdigit()


if __name__ == "__main__":
    main()
