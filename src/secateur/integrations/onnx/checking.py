"""What an exported model must pass before it becomes a file: the outputs of torch, and every zero in its place."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from secateur.choose.targets import prunable
from secateur.vocabulary import BadTargetError, SecateurError

__all__ = [
    "Agreement",
    "ExportError",
    "Inputs",
    "batch_of",
    "batched",
    "compare",
    "count_zeros",
    "random_like",
    "repeated",
    "run",
]

Inputs: TypeAlias = tuple[Any, ...]
Array: TypeAlias = npt.NDArray[Any]

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


class ExportError(SecateurError):
    """A model that cannot be exported, or whose export does something else; no file was written."""


def batched(leaf: object) -> bool:
    """Return whether this part of the inputs is a tensor whose first axis is the batch."""
    return isinstance(leaf, Tensor) and leaf.ndim > 0


def batch_of(inputs: Inputs) -> int:
    """Return how many examples the inputs hold.

    Raises:
        ExportError: no tensor, none, or not the same number in each.

    Example:
        >>> batch_of((torch.zeros(3, 8), {"mask": torch.ones(3)}))
        3
    """
    sizes = {leaf.shape[0] for leaf in tree_leaves(inputs) if batched(leaf)}
    if len(sizes) != 1 or 0 in sizes:
        raise ExportError(
            "example is a tensor or a tuple of inputs that all hold the same number of examples, at least 1, along "
            f"their first axis; got {sorted(sizes) or 'no tensor with an axis'}"
        )
    return int(sizes.pop())


def repeated(inputs: Inputs, size: int) -> Inputs:
    """Return ``size`` examples, those given again and again.

    Example:
        >>> repeated((torch.tensor([1, 2]),), 3)
        (tensor([1, 2, 1]),)
    """

    def each(leaf: Any) -> Any:
        return leaf[torch.arange(size, device=leaf.device) % len(leaf)] if batched(leaf) else leaf

    return tuple(tree_map(each, inputs))


def random_like(inputs: Inputs, size: int) -> Inputs:
    """Return ``size`` examples at random, the same ones every time.

    Floating-point numbers are normal with the mean and deviation of those given; integers and booleans, such as tokens
    and masks, have a range of their own and are drawn from those given.

    Example:
        >>> [tuple(each.shape) for each in random_like((torch.zeros(1, 8), torch.ones(1, 5, dtype=torch.int64)), 3)]
        [(3, 8), (3, 5)]
    """
    generator = torch.Generator().manual_seed(size)

    def each(leaf: Any) -> Any:
        if not batched(leaf):
            return leaf
        shape = (size, *leaf.shape[1:])
        if not leaf.is_floating_point():
            picked = torch.randint(max(1, leaf.numel()), shape, generator=generator)
            return leaf.flatten()[picked.to(leaf.device)]
        deviation, mean = torch.std_mean(leaf.double(), correction=0)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(leaf.device)
        return (noise * (deviation or 1.0) + mean).to(leaf.dtype)

    return tuple(tree_map(each, inputs))


def run(model: nn.Module, inputs: Inputs) -> list[Array]:
    """Return the output tensors of a model, in the order in which ONNX lists them.

    Raises:
        ExportError: the model fails on these inputs.

    Example:
        >>> [output.shape for output in run(nn.LSTM(8, 4, batch_first=True).eval(), (torch.zeros(2, 5, 8),))]
        [(2, 5, 4), (1, 2, 4), (1, 2, 4)]
    """
    try:
        with torch.no_grad():
            return [leaf.cpu().numpy() for leaf in tree_leaves(model(*inputs)) if isinstance(leaf, Tensor)]
    except Exception as error:
        raise ExportError(
            f"{type(model).__name__} cannot run a batch of {batch_of(inputs)} in eval mode, which is checked before "
            f"exporting ({type(error).__name__}: {textwrap.shorten(str(error), 200)})"
        ) from error


@dataclass(frozen=True)
class Agreement:
    """How far ONNX Runtime is from torch: the largest difference, and that over the range of the outputs and zero."""

    difference: float
    relative: float


def compare(proto: onnx.ModelProto, checks: Sequence[Inputs], wanted: Sequence[Sequence[Array]]) -> Agreement:
    """Run an exported model in ONNX Runtime, on the CPU, and hold its outputs against those wanted.

    Args:
        proto: the model as it would be written.
        checks: inputs.
        wanted: for each of them the outputs of :func:`run`.

    Raises:
        ExportError: ONNX Runtime cannot load or run it.

    Example:
        >>> x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch"]) for name in "xy")
        >>> graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
        >>> proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        >>> compare(proto, [(torch.tensor([-1.0, 3.0]),)], [[np.float32([0.0, 4.0])]])
        Agreement(difference=1.0, relative=0.25)
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    options.intra_op_num_threads = torch.get_num_threads()
    gap, low, high = 0.0, 0.0, 0.0
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        for inputs, theirs in zip(checks, wanted, strict=True):
            fed = [leaf.cpu().numpy() for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
            ours = session.run(None, dict(zip(names, fed, strict=True)))
            for a, b in zip(ours, theirs, strict=True):
                gap = max(gap, _apart(a, b))
                finite = b[np.isfinite(b)].astype(float)
                low, high = min(low, float(finite.min(initial=0.0))), max(high, float(finite.max(initial=0.0)))
    except Exception as error:  # ONNX Runtime's own errors have no common base
        raise ExportError(
            f"ONNX Runtime cannot run the exported model ({textwrap.shorten(str(error), 300)}); nothing was written"
        ) from error
    return Agreement(gap, gap / ((high - low) or 1.0))


def _apart(ours: Array, theirs: Array) -> float:
    """Return the largest difference; infinite for another shape or type, or where only one of the two is finite."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return float("inf")
    a, b = ours.astype(float), theirs.astype(float)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        gaps = np.where(same, 0.0, np.abs(a - b))
    return float(np.nan_to_num(gaps, nan=np.inf, posinf=np.inf).max(initial=0.0))


def count_zeros(model: nn.Module, used: Collection[str], proto: onnx.ModelProto) -> tuple[int, int]:
    """Return how many weights an exported model stores and how many are zero, after checking that none came back.

    Where a target has its own name there, its zeros are checked one by one. Matrices that the exporter turned round or
    put together have new names: what remains must then have as many zeros at least.

    Args:
        model: the model that was exported.
        used: names of the parameters that its outputs depend on; the others are not in the file.
        proto: the exported model.

    Raises:
        ExportError: a target is zero in the model where the file's is not.

    Example:
        >>> layer = nn.Linear(3, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[0.0, 2.0, 0.0]]))
        >>> stored = onnx.numpy_helper.from_array(layer.weight.detach().numpy(), "weight")
        >>> count_zeros(layer, {"weight"}, onnx.ModelProto(graph=onnx.GraphProto(initializer=[stored])))
        (3, 2)
    """
    graph = proto.graph
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer if each.data_type in FLOATS}
    counts = sum(array.size for array in stored.values()), _zeros(stored.values())
    owed = 0
    for names, weight in _targets(model):
        if names.isdisjoint(used):
            continue
        zero = (weight.detach() == 0).cpu().numpy()
        own = next((name for name in names if name in stored and stored[name].shape == zero.shape), None)
        if own is None:
            owed += int(zero.sum())
        elif np.any(stored.pop(own)[zero]):
            raise ExportError(f"zeros of {own!r} are not zero in the exported model; nothing was written")
    if _zeros(stored.values()) < owed:
        raise ExportError(
            f"the exporter merged pruned weights of {type(model).__name__} with others, so that zeros were lost; "
            "nothing was written. Merge them in the model, and prune what comes out"
        )
    return counts


def _zeros(arrays: Collection[Array]) -> int:
    return sum(int((array == 0).sum()) for array in arrays)


def _targets(model: nn.Module) -> Iterator[tuple[set[str], Tensor]]:
    """Yield every target with all of its names: a tied tensor has several."""
    try:
        targets = prunable(model)
    except BadTargetError:
        return
    names = defaultdict(set)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].add(name)
    for weight in targets.values():
        yield names[id(weight)], weight
