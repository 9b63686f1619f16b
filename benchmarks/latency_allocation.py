"""Pruning for time: sparsities by measured latency against one global ranking, at equal latency on the engine.

    python benchmarks/latency_allocation.py --data-dir DATA        (about half an hour on one core; resumable)

LeNet-5 on Fashion-MNIST, three seeds, trained as ``secateur run`` trains. A net pruned globally sets the time; its
rival gets, layer by layer, the sparsities with which the dense net loses the least in that time, and is pruned and
trained in the same way. The layers are timed once, for all seeds. Writes ``benchmarks/results/latency_allocation.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import common
import torch
from torch import nn

import secateur as sc
from secateur.files import read_json, read_tensors, write_json, write_text
from secateur.lab import checkpoint, models
from secateur.lab.environment import environment
from secateur.lab.runs import Options, run, train_dense
from secateur.lab.settings import Settings
from secateur.lab.timing import Pace, in_turns, timed, times_faster

BASE = Settings(
    data="fashion-mnist",
    model="lenet-5",
    epochs=8,
    prune_epochs=12,
    batch_size=128,
    learning_rate=0.002,
    precision="bfloat16",
    bits=0,
)
SPARSITIES = (0.9, 0.95, 0.98)
SEEDS = (0, 1, 2)
SHAPE = (1, 28, 28)
LEVELS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
PACE = Pace(turns=40, seconds=0.02)


def settings_of(seed: int, sparsity: float, shares: Mapping[str, float] | None = None) -> Settings:
    """Return the settings of a cell: pruned globally, or to sparsities by layer."""
    base = dataclasses.replace(BASE, seed=seed, sparsity=sparsity, engine=False)
    if shares is None:
        return base
    layers = ",".join(f"{name.removesuffix('.weight')}={share:g}" for name, share in shares.items())
    return dataclasses.replace(base, scope="layerwise", layers=layers)


def cell(settings: Settings, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one cell, or read what it came to."""
    dense = options.out / f"dense-seed{settings.seed}"
    train_dense(settings, dense, Options(options.data_dir))
    return run(settings, folder, Options(options.data_dir, dense=dense, forms=False))


def network(folder: Path) -> nn.Module:
    """Return the pruned network of a run."""
    model = models.build(BASE.model, SHAPE, 10)
    tensors, _ = read_tensors(folder / "model.safetensors")
    model.load_state_dict(tensors)
    return model.eval()


def dense_network(seed: int, options: argparse.Namespace) -> nn.Module:
    """Return the network that is pruned."""
    model = models.build(BASE.model, SHAPE, 10)
    model.load_state_dict(checkpoint.load(options.out / f"dense-seed{seed}" / "dense.safetensors").groups["model"])
    return model.eval()


def times_of(options: argparse.Namespace) -> sc.LayerTimes:
    """Return the time of each layer at each sparsity, measured once and kept; losses are those of seed 0."""
    path = options.out / "times.json"
    net = dense_network(SEEDS[0], options)
    if not path.exists():
        found = sc.layer_times(net, torch.zeros(1, *SHAPE), LEVELS, runs=300)
        points = {name: [[s, t] for s, t in curve.items()] for name, curve in found.curves.items()}
        write_json(path, {"rest": found.rest, "curves": points})
    kept: Any = read_json(path)
    curves = {name: {float(s): float(t) for s, t in curve} for name, curve in kept["curves"].items()}
    return dataclasses.replace(
        sc.layer_times(net, torch.zeros(1, *SHAPE), (0.5,), runs=1), rest=kept["rest"], curves=curves
    )


def shares_of(folder: Path) -> dict[str, float]:
    """Return the sparsity of each target of a run."""
    weights = sc.prunable(network(folder))
    return {name: 1 - int(weight.count_nonzero()) / weight.numel() for name, weight in weights.items()}


def pair(sparsity: float, seed: int, times: sc.LayerTimes, options: argparse.Namespace) -> dict[str, Any]:
    """Train the two nets of a sparsity and a seed, and time them in turns."""
    ranked = options.out / f"global-s{sparsity:g}-seed{seed}"
    first = cell(settings_of(seed, sparsity), ranked, options)
    seconds = times.seconds(shares_of(ranked))
    shares = {name: round(share, 4) for name, share in times.allocation(seconds).items()}
    sizes = {name: weight.numel() for name, weight in sc.prunable(network(ranked)).items()}
    whole = sum(shares[name] * size for name, size in sizes.items()) / sum(sizes.values())
    timed_ = options.out / f"timed-s{sparsity:g}-seed{seed}"
    second = cell(settings_of(seed, round(whole, 4), shares), timed_, options)
    engines = [sc.compile(network(folder), torch.zeros(1, *SHAPE)) for folder in (ranked, timed_)]
    given = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1)).numpy()
    calls = [timed(lambda engine=engine: engine(given)) for engine in engines]  # type: ignore[misc]
    taken = in_turns(calls, PACE)
    return {
        "sparsity": [sparsity, whole],
        "test": [each["accuracy"]["pruned"]["test"] for each in (first, second)],
        "dense": first["accuracy"]["dense_longer"]["test"],
        "us": [1e6 * each.quartiles()[1] for each in taken],
        "ratio": list(times_faster(taken[1].medians(), taken[0].medians())),
        "shares": [shares_of(ranked), shares],
    }


def main() -> None:
    """Run what is missing, time every pair and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("sweeps/latency-allocation"), help="folder for the runs")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for seed in SEEDS:
        train_dense(settings_of(seed, SPARSITIES[0]), options.out / f"dense-seed{seed}", Options(options.data_dir))
    times = times_of(options)
    found: dict[float, list[dict[str, Any]]] = {}
    for seed in SEEDS:
        losses = sc.layer_times(dense_network(seed, options), torch.zeros(1, *SHAPE), (0.5,), runs=1).losses
        own = dataclasses.replace(times, losses=losses)
        for sparsity in SPARSITIES:
            found.setdefault(sparsity, []).append(pair(sparsity, seed, own, options))
            print(f"sparsity {sparsity:g}, seed {seed}: {found[sparsity][-1]}", flush=True)
    write_text(common.RESULTS / "latency_allocation.md", page(found))
    print(common.RESULTS / "latency_allocation.md")


def page(found: Mapping[float, list[dict[str, Any]]]) -> str:
    """Return the page."""
    machine = environment()
    names = list(next(iter(found.values()))[0]["shares"][0])
    rows, shares = [], []
    for sparsity, cells in found.items():
        gained = [100 * (each["test"][1] - each["test"][0]) for each in cells]
        rows.append(
            [
                f"{sparsity:g}",
                f"{_mean([each['sparsity'][1] for each in cells]):.3f}",
                *(common.accuracy([each["test"][which] for each in cells]) for which in (0, 1)),
                f"{_mean(gained):+.2f} ({min(gained):+.2f} to {max(gained):+.2f})",
                *(f"{_mean([each['us'][which] for each in cells]):.1f}" for which in (0, 1)),
                f"{_mean([each['ratio'][1] for each in cells]):.2f}",
            ]
        )
        for which, how in enumerate(("global", "by time")):
            means = (f"{_mean([each['shares'][which][name] for each in cells]):.3f}" for name in names)
            shares.append([f"{sparsity:g}", how, *means])
    head = ["global sparsity", "by time", "global", "by time", "gained", "µs, global", "µs, by time", "times faster"]
    dense = common.accuracy([each["dense"] for each in next(iter(found.values()))])
    made = f"""Made by `python benchmarks/latency_allocation.py` on {machine["date"]}, {machine["processor"]}, one
        thread; secateur {machine["secateur"]}, torch {machine["torch"]}, Python {machine["python"]}. LeNet-5 on
        Fashion-MNIST, {BASE.epochs} epochs dense, {BASE.prune_epochs} epochs of gradual pruning, in bfloat16;
        test accuracy in percent, mean ± standard deviation over seeds {", ".join(map(str, SEEDS))}; trained dense as
        long: {dense}. Times are medians of calls of one image, the two nets in turns."""
    how = """The times a layer takes at each sparsity are measured on the dense net (`sc.layer_times`). "By time" are
        the sparsities of `LayerTimes.allocation`, for the time that the globally pruned net should take by the same
        curves. "Times faster" is what the two took in the end."""
    return (
        "\n\n".join(
            [
                "# Pruned for time",
                common.paragraph(made),
                common.paragraph(how),
                common.markdown(head, rows),
                "Sparsity by layer, means over seeds:",
                common.markdown(
                    ["global sparsity", "chosen", *(name.removesuffix(".weight") for name in names)], shares
                ),
            ]
        )
        + "\n"
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
