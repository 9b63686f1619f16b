"""Operations on elements: units that meet in a sum or a product are one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from secateur.graph.flow import Flow, along, laid
from secateur.graph.walk import Rule, Walk, operation, place

__all__ = ["RULES"]

# fmt: off
_ONE_BY_ONE = """
    relu relu6 gelu silu hardswish hardsigmoid sigmoid tanh elu leaky_relu hardtanh mish softplus softsign selu celu
    log_sigmoid logsigmoid neg abs exp expm1 log log1p sqrt rsqrt square sin cos
    erf reciprocal sign round floor ceil clamp clamp_min clamp_max
    logical_not threshold rrelu hardshrink softshrink tanhshrink nan_to_num positive
""".split()  # noqa: SIM905
_THE_SAME = """
    to _to_copy type_as float half double bfloat16 bool contiguous clone alias detach lift_fresh lift_fresh_copy
    dropout feature_dropout alpha_dropout
""".split()  # noqa: SIM905
_TOGETHER = """
    add sub rsub subtract mul multiply div divide true_divide maximum minimum where masked_fill pow lerp addcmul
    addcdiv logical_and logical_or eq ne lt le gt ge remainder floor_divide fmod __and__ __or__ bitwise_and bitwise_or
    atan2
""".split()  # noqa: SIM905
_OVER = """
    mean sum amax amin prod var std norm linalg_vector_norm softmax log_softmax _softmax cumsum logsumexp all any
""".split()  # noqa: SIM905
_BY_CHANNEL = """
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool2d_with_indices
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
    upsample_trilinear3d
""".split()  # noqa: SIM905
# fmt: on


def _one_by_one(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Activations: the labels of the operand."""
    flow = walk.flow(node.args[0])
    if flow is None or flow.value.shape != value.shape:
        return walk.unknown(node, value)
    flow = walk.awake(flow)
    return Flow(value, flow.labels, flow.live)


def _the_same(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Copies and casts: a parameter is still the parameter."""
    flow = walk.flow(node.args[0])
    if flow is None or flow.value.shape != value.shape:
        return walk.unknown(node, value)
    return Flow(value, flow.labels, flow.live, flow.name, flow.places)


def _together(walk: Walk, node: fx.Node, value: Any) -> Flow:
    """Sums, products, choices: units at one place are one; a parameter along their axis follows them."""
    given = [*node.args, *node.kwargs.values()]
    flows = [flow for each in given if (flow := walk.flow(each)) is not None]
    live = _live(operation(node), flows, value.ndim)
    if not any(flow.labels is not None or (flow.live is not None and bool(flow.live.any())) for flow in flows):
        flows = _awake(walk, flows)
    labelled = [flow for flow in flows if flow.labels is not None]
    if not labelled:
        if bool(live.any()):  # a parameter beside an activation without units keeps its size
            for flow in flows:
                walk.keep(flow)
        return Flow(value, live=live)
    result = Flow(value, _united(walk, labelled, node, value.ndim), live)
    for flow in flows:
        if flow.labels is None:
            _beside(walk, result, flow, node)
    return result


def _awake(walk: Walk, flows: list[Flow]) -> list[Flow]:
    """Parameters that are computed with each other: they have units if each of them has one axis for them."""
    if any(flow.name and sum(size > 1 for size in flow.shape) > 1 for flow in flows):
        return flows
    return [walk.awake(flow) for flow in flows]


def _united(walk: Walk, labelled: list[Flow], node: fx.Node, ndim: int) -> Tensor:
    """Unite the labels of operands; one that is broadcast over the units of another must stay."""
    placed = [(flow, laid(flow.labels, ndim)) for flow in labelled if flow.labels is not None]
    joint = torch.broadcast_shapes(*[labels.shape for _, labels in placed])
    full = []
    for flow, labels in placed:
        own = [1] * (ndim - flow.value.ndim) + list(flow.shape)
        if any(own[dim] == 1 and joint[dim] > 1 for dim in range(ndim)):
            walk.pin(flow, f"broadcast over units at {place(node)}")
        else:
            full.append(labels)
    if not full:
        return placed[0][1]
    for other in full[1:]:
        walk.units.unite(full[0], other, place(node))
    return max(full, key=torch.Tensor.numel)


def _beside(walk: Walk, result: Flow, other: Flow, node: fx.Node) -> None:
    """Mind an operand without units: a parameter follows the units, anything else must not tell them apart."""
    assert result.labels is not None
    ndim = result.labels.ndim
    offset = ndim - other.value.ndim
    met = [dim for dim in along(result.labels) if dim >= offset and other.shape[dim - offset] > 1]
    if other.name:
        if len(met) > 1:
            walk.even(result, met[1:])
        for dim in range(offset, ndim):
            if other.shape[dim - offset] > 1 and dim in met[:1]:
                others = [each for each in along(result.labels) if each != dim]
                walk.even(result, others)
                walk.store(other, dim - offset, "follows", result.labels.reshape(-1).expand(result.shape[dim]))
        return
    told = [dim for dim in met if _tells(other, dim - offset)]
    walk.whole(result, told, f"{operation(node)} with what belongs to no unit at {place(node)}")


def _tells(other: Flow, dim: int) -> bool:
    """Say if an operand may differ along an axis: it depends on the inputs, or is a constant that does."""
    if other.live is None or bool(other.live.any()):
        return True
    return bool((other.value != other.value.narrow(dim, 0, 1)).any())


def _live(name: str, flows: list[Flow], ndim: int) -> Tensor:
    """Return what depends on the inputs: what any operand does, but a product with a constant zero does not."""
    lives = [laid(flow.live, ndim) for flow in flows if flow.live is not None]
    if name in ("mul", "multiply") and len(lives) == 2:
        zeros = [_zero(flow, live, ndim) for flow, live in zip(flows, lives, strict=True)]
        lives = [live & ~zero for live, zero in zip(lives, reversed(zeros), strict=True)]
    joint = torch.broadcast_shapes(*[live.shape for live in lives])
    out = torch.zeros(joint, dtype=torch.bool)
    for live in lives:
        out = out | live
    return out


def _zero(flow: Flow, live: Tensor, ndim: int) -> Tensor:
    """Return where an operand is zero whatever the inputs are."""
    if bool(live.all()):
        return torch.zeros_like(live)
    zero = laid(flow.value, ndim) == 0
    known = [] if flow.labels is None or bool(live.any()) else along(laid(flow.labels, ndim))
    for dim in range(ndim):
        # A parameter, or what was computed from one, may differ along an axis along which nothing is live.
        if live.shape[dim] == 1 and zero.shape[dim] > 1 and not flow.name and dim not in known:
            zero = zero.all(dim, keepdim=True)
    return zero & ~live


def _over(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Softmax, mean, sum, norm: units along the axes they run over must stay."""
    flow = walk.flow(node.args[0])
    if flow is None or flow.live is None or not isinstance(value, Tensor):
        return walk.unknown(node, value)
    ndim = flow.value.ndim
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if operation(node) in ("norm", "linalg_vector_norm"):
        given = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim")
    if given is None or isinstance(given, bool | float) or given == []:
        given = list(range(ndim))
    dims = sorted({int(dim) % max(1, ndim) for dim in (given if isinstance(given, list | tuple) else [given])})  # type: ignore[arg-type]
    walk.whole(flow, dims, f"{operation(node)} over units at {place(node)}")
    live, labels = flow.live, flow.labels
    for dim in dims:
        if ndim:
            live = live.any(dim, keepdim=True)
            labels = None if labels is None else labels.narrow(dim, 0, 1)
    if value.ndim != ndim:
        left = [dim for dim in range(ndim) if dim not in dims]
        live = live.permute(*left, *dims).reshape([live.shape[dim] for dim in left])
        labels = None if labels is None else labels.permute(*left, *dims).reshape([labels.shape[dim] for dim in left])
    return Flow(value, labels, live)


def _by_channel(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Pooling and upsampling: channel by channel."""
    flow = walk.flow(node.args[0])
    if flow is None or flow.live is None:
        return walk.unknown(node, value)
    first = value if isinstance(value, Tensor) else value[0]
    resized = [dim for dim in range(first.ndim) if first.shape[dim] != flow.shape[dim]]
    over = [dim for dim in range(first.ndim) if dim in resized or dim > first.ndim - _spatial(node) - 1]
    walk.whole(flow, over, f"{operation(node)} over units at {place(node)}")
    live, labels = flow.live, flow.labels
    for dim in over:
        live = live.any(dim, keepdim=True)
        labels = None if labels is None else labels.narrow(dim, 0, 1)
    if isinstance(value, Tensor):
        return Flow(value, labels, live)
    return [Flow(each, labels, live) for each in value]


def _spatial(node: fx.Node) -> int:
    return next(int(letter) for letter in operation(node) if letter.isdigit())


def _shaped(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Constants as many as there are of something else, and all alike."""
    return Flow(value, live=torch.zeros((1,) * value.ndim, dtype=torch.bool))


RULES: dict[str, Rule] = (
    dict.fromkeys(_ONE_BY_ONE, _one_by_one)
    | dict.fromkeys(_THE_SAME, _the_same)
    | dict.fromkeys(_TOGETHER, _together)
    | dict.fromkeys(_OVER, _over)
    | dict.fromkeys(_BY_CHANNEL, _by_channel)
    | dict.fromkeys(["ones_like", "zeros_like", "full_like"], _shaped)
)
