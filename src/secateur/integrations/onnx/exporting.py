"""From a torch model to an ONNX file with its sizes told honestly."""

from __future__ import annotations

import contextlib
import gzip
import io
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnxscript import ir
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from secateur.files import file_to_write, write_bytes
from secateur.integrations.onnx.checking import (
    ExportError,
    Inputs,
    batch_of,
    batched,
    compare,
    count_zeros,
    random_like,
    repeated,
    run,
)
from secateur.measure.cost import size_in_bytes
from secateur.modules import in_eval_mode, unwrap
from secateur.silence import silence

__all__ = ["Export", "export"]

LARGEST = 2**31 - 1  # bytes of a protobuf message, which an ONNX file is


@dataclass(frozen=True)
class Export:
    """What was written, and how it was checked; ``print`` it.

    Attributes:
        path: the file.
        bytes: its size.
        gzipped: its size gzipped at level 6.
        safetensors_gzipped: bytes of the model's ``state_dict`` as safetensors, gzipped alike.
        weights: floating-point values that the file stores, biases and norms included.
        zeros: how many of them are zero, counted in the file.
        batches: sizes of the batches on which ONNX Runtime was held against torch.
        difference: largest absolute difference of an output.
        relative: the same over the range of the outputs and zero.
        tolerance: the largest ``relative`` that was allowed.
        opset: version of ONNX's operators.
    """

    path: Path
    bytes: int
    gzipped: int
    safetensors_gzipped: int
    weights: int
    zeros: int
    batches: tuple[int, ...]
    difference: float
    relative: float
    tolerance: float
    opset: int

    def __str__(self) -> str:
        batches = ", ".join(map(str, self.batches))
        return "\n".join(
            [
                f"{self.path}: {self.bytes:,} bytes, gzipped {self.gzipped:,} bytes (opset {self.opset}, any batch)",
                f"{self.zeros:,} of {self.weights:,} weights in it are zero; ONNX stores zeros like any other value, "
                "so the file is no smaller than the dense network's until it is compressed",
                f"the same weights as safetensors, gzipped: {self.safetensors_gzipped:,} bytes",
                f"checked in ONNX Runtime {onnxruntime.__version__} against torch on batches of {batches}: outputs "
                f"differ by at most {self.difference:.1e}, {self.relative:.1e} of their range "
                f"(allowed {self.tolerance:.0e})",
            ]
        )


def export(model: nn.Module, example: Tensor | Inputs, path: str | Path, *, tolerance: float = 1e-4) -> Export:
    """Write a model as an ONNX file that takes batches of any size, once ONNX Runtime agrees with torch.

    The model is exported in eval mode and left as it was. What the exporter made is run on ``example`` and on random
    inputs of other batch sizes and held against the model, and pruned weights must be zero in it; only then does the
    file appear, whole, under its name. Weights keep their ``state_dict`` names where they keep their layout. Batch
    norms are folded into convolutions, which leaves zeros zero.

    Args:
        model: any module that ``torch.export`` can trace; wrappers of ``torch.compile`` and DDP are looked through.
        example: a tensor or a tuple of positional inputs on the model's device; the first axis of each tensor is the
            batch, of at least 1.
        path: of the file; its folder must exist, and a file that is there is replaced.
        tolerance: largest difference of an output allowed, as a share of the range of the outputs and zero; above 0.
            The default suits float32; half precision needs about 1e-2.

    Raises:
        ExportError: the model cannot be exported, ONNX Runtime cannot run it or disagrees, a pruned weight is not zero
            in the file, the file would exceed 2 GiB, or ``example`` or ``tolerance`` makes no sense.
        OSError: the folder is missing or cannot be written.

    Example:
        >>> import tempfile, secateur as sc
        >>> net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> masks = sc.prune(net, sparsity=0.75)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     done = export(net, torch.randn(2, 8), folder + "/net.onnx")
        >>> done.zeros, done.weights, done.batches
        (30, 46, (2, 1, 3))
    """
    plain, path = unwrap(model), Path(path)
    inputs = example if isinstance(example, tuple) else (example,)
    _check(plain, inputs, path, tolerance)
    batch = batch_of(inputs)
    checks = [inputs, *(random_like(inputs, size) for size in (1, 3) if size != batch)]
    with in_eval_mode(plain):
        wanted = [run(plain, each) for each in checks]
        # A batch of one would be taken for a constant, and a tensor given twice for one input.
        proto, used = _traced(plain, repeated(inputs, max(batch, 2)))
    weights, zeros = count_zeros(plain, used, proto)
    found = compare(proto, checks, wanted)
    if not found.relative <= tolerance:
        raise ExportError(
            f"ONNX Runtime and torch disagree on {type(plain).__name__} by {found.difference:.1e}, "
            f"{found.relative:.1e} of the range of its outputs (allowed {tolerance:.0e}); nothing was written. A model "
            "that draws lots in eval mode does so; half precision may need a larger tolerance"
        )
    data = proto.SerializeToString()
    write_bytes(path, data)
    return Export(
        path=path,
        bytes=len(data),
        gzipped=len(gzip.compress(data, compresslevel=6, mtime=0)),
        safetensors_gzipped=size_in_bytes(plain).gzipped,
        weights=weights,
        zeros=zeros,
        batches=tuple(batch_of(each) for each in checks),
        difference=found.difference,
        relative=found.relative,
        tolerance=tolerance,
        opset=next(int(each.version) for each in proto.opset_import if not each.domain),
    )


def _check(model: nn.Module, inputs: Inputs, path: Path, tolerance: float) -> None:
    """Refuse at once what would fail only after the work is done."""
    if not tolerance > 0:
        raise ExportError(f"tolerance is a share of the outputs' range above 0, got {tolerance}")
    held = [*model.parameters(), *model.buffers()]
    if any(isinstance(leaf, Tensor) and leaf.dtype == torch.bfloat16 for leaf in [*held, *tree_leaves(inputs)]):
        raise ExportError("ONNX Runtime has hardly a kernel for bfloat16: export model.float(), with such an example")
    if sum(tensor.nbytes for tensor in held) > LARGEST:
        raise ExportError(f"the weights of {type(model).__name__} exceed the 2 GiB that an ONNX file can hold")
    file_to_write(path)


def _traced(model: nn.Module, inputs: Inputs) -> tuple[onnx.ModelProto, set[str]]:
    """Return the exported model, and the names of the parameters that its outputs depend on."""
    dynamic = tree_map(lambda leaf: {0: "batch"} if batched(leaf) else None, inputs)
    try:
        with _quiet(), torch.no_grad():
            # A dict at the end would be taken for keyword arguments; an empty one leaves the inputs as given.
            program = torch.onnx.export(
                model, (*inputs, {}), dynamo=True, dynamic_shapes=dynamic, optimize=False, verbose=False
            )
            assert program is not None
            used = set(program.model.graph.initializers)
            program.optimize()
            # Notes on each node tell where in its author's folders the code lies, and outweigh a small model.
            ir.passes.common.ClearMetadataAndDocStringPass()(program.model)
            return program.model_proto, used
    except Exception as error:
        reason = textwrap.shorten(str(error.__cause__ or error), 300)
        raise ExportError(
            f"{type(model).__name__} cannot be exported to ONNX with a batch of any size ({reason}); "
            "torch.export.export(model, example) tells more"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress, and torch's advice to those who develop it, off the console."""
    with silence(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
