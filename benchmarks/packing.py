"""How small packed files are and how fast they are read: lossless, and with codebooks at what loss of accuracy.

    python benchmarks/packing.py --data-dir DATA
    python benchmarks/packing.py --data-dir DATA --runs sweeps/published/*/cells/*

writes benchmarks/results/packing.md. Lossless packing needs no data: the networks have initial weights, pruned by
magnitude. The runs, networks trained and pruned by benchmarks/published.py, are packed with and without loss.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import common
import torch
from torch import nn

import secateur as sc
from secateur.lab import models
from secateur.lab.data import load
from secateur.lab.environment import environment
from secateur.lab.networks import load_network
from secateur.lab.runs import read_result
from secateur.lab.training import evaluate
from secateur.measure.cost import size_in_bytes

NETS = {"lenet-300-100": (1, 28, 28), "resnet-18": (3, 32, 32)}
SCOPES: dict[str, sc.Global | sc.PerTensor] = {"all layers together": sc.Global(), "each layer": sc.PerTensor()}
REPEATS = 7


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs", type=Path, nargs="*", help="run folders  [default: sweeps/published/*/cells/*]")
    parser.add_argument("--bits", type=int, nargs="*", default=[4, 5, 6])
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = options.runs if options.runs is not None else sorted(Path("sweeps/published").glob("*/cells/*"))
    runs = [run for run in runs if (run / "result.json").exists()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.sct"
        lossless = [row for name in NETS for row in initial(name, file)] + [trained(run, file) for run in runs]
        quantized = [row for run in runs for row in with_codebooks(run, options, file)]
    page = common.RESULTS / "packing.md"
    page.write_text(text(lossless, quantized), encoding="utf-8")
    print(page.read_text(encoding="utf-8"))


def initial(name: str, file: Path) -> Iterator[list[str]]:
    """Yield a row for each scope and sparsity of a network with initial weights."""
    for words, scope in SCOPES.items():
        for sparsity in (0.9, 0.95):
            torch.manual_seed(0)
            net = models.build(name, NETS[name], 10)
            sc.prune(net, sparsity, choice=sc.Choice(scope=scope))
            yield sizes(f"{name}, initial weights, {words}", sparsity, net, file)


def trained(run: Path, file: Path) -> list[str]:
    """Return the row of a run's network."""
    net, _ = load_network(run)
    settings = read_result(run)["settings"]
    return sizes(f"{settings['model']}, {settings['method']}, seed {settings['seed']}", settings["sparsity"], net, file)


def sizes(label: str, sparsity: float, net: nn.Module, file: Path) -> list[str]:
    """Return the sizes of a network in every form, and how fast it is packed and unpacked."""
    state = net.state_dict()
    dense = sum(tensor.nbytes for tensor in state.values())
    forms = size_in_bytes(net)
    kept = sum(int(tensor.count_nonzero()) for tensor in state.values())
    bitmask = sum(tensor.numel() for tensor in state.values()) // 8 + 4 * kept
    packed, seconds = None, []
    for _ in range(REPEATS):
        begun = time.process_time()
        packed = sc.pack(net, file)
        between = time.process_time()
        sc.unpack(file)
        seconds.append((between - begun, time.process_time() - between))
    assert packed is not None and packed.size == forms.packed and forms.csr is not None
    speeds = [[dense / each / 1e6 for each in column] for column in zip(*seconds, strict=True)]
    return [
        label,
        f"{sparsity:g}",
        f"{dense:,}",
        *(f"{dense / size:.2f}" for size in (forms.gzipped, forms.csr, bitmask)),
        f"**{dense / packed.size:.2f}** ({packed.size:,} bytes)",
        *(common.spread(speed, 0) for speed in speeds),
    ]


def with_codebooks(run: Path, options: argparse.Namespace, file: Path) -> Iterator[list[str]]:
    """Yield size and test error of a run's network for each number of bits; 0 is without loss."""
    result = read_result(run)
    settings = result["settings"]
    data = load(settings["data"], options.data_dir, seed=settings["seed"], validation=settings["validation"])
    net, _ = load_network(run)
    dense = sum(tensor.nbytes for tensor in net.state_dict().values())
    for bits in (0, *options.bits):
        packed = sc.pack(net, file, bits=bits or None)
        back, _ = load_network(run)
        error = 100 * (1 - evaluate(sc.unpack(file, into=back), data.test).accuracy)
        if not bits:
            before = error
        yield [
            f"{settings['model']}, {settings['method']}, seed {settings['seed']}",
            f"{settings['sparsity']:.4f}",
            str(bits or "lossless"),
            f"{packed.size:,}",
            f"**{dense / packed.size:.0f}**",
            f"{error:.2f} ({error - before:+.2f})",
        ]


def text(lossless: list[list[str]], quantized: list[list[str]]) -> str:
    """Return the page."""
    machine = environment()
    parts = [
        "# Packed files",
        common.paragraph(
            "Written by `python benchmarks/packing.py --data-dir DATA --runs sweeps/published/*/cells/*`. All sizes "
            "are of files on disk with their headers, ratios are over the bytes of the dense tensors. Trained networks "
            "are cells of `benchmarks/published.py`, those that were there. Bitmask: a bit for each weight and the "
            "kept values, no header. Packing and unpacking in MB of dense tensors for a second of one core's time, "
            f"median and range of {REPEATS}; {machine['date']}, {machine['processor']}, secateur "
            f"{machine['secateur']}, torch {machine['torch']}, Python {machine['python']}."
        ),
        "## Lossless",
        common.markdown(
            [
                "network",
                "sparsity",
                "dense bytes",
                "gzip",
                "torch CSR",
                "bitmask",
                "packed",
                "packing MB/s",
                "unpacking MB/s",
            ],
            lossless,
        ),
    ]
    if quantized:
        parts += [
            "## With codebooks",
            common.paragraph(
                "`sc.pack(net, path, bits=...)`: k-means and rounding alone, no values trained afterwards. Test error "
                "in percent, with the difference from the network unpacked without loss."
            ),
            common.markdown(["network", "sparsity", "bits", "bytes", "times smaller", "test error"], quantized),
        ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
