"""From a model to a plan: trace it, lower each operation, fuse them, and check what came out."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind, OutputKind

from secateur.engine.lowering import tracing
from secateur.engine.lowering.batch import Batch, Fixed, Live, Refused
from secateur.engine.lowering.finishing import finished, first_difference
from secateur.engine.lowering.fusing import fused
from secateur.engine.lowering.rules import RULES
from secateur.engine.lowering.walk import Call, UnsupportedError, Walk, rule_of
from secateur.engine.plan import Plan, check
from secateur.modules import in_eval_mode, unwrap

__all__ = ["lower"]


def lower(model: nn.Module, example: Any) -> Plan:
    """Turn a model into a plan that computes the same, for any number of samples.

    The model is traced in eval mode and is not changed; the plan shares no memory with it. Weights that are zero are
    zero in the plan.

    Args:
        model: any module that ``torch.export`` can trace; its floats become float32 whatever they were.
        example: a tensor, a tuple of positional inputs, or a dict of inputs by name; the first axis of each is the
            batch, of any size. What is no tensor is part of the plan.

    Raises:
        TraceError: the model cannot be traced.
        ExampleError: the example has no batch axis, or not everywhere.
        UnsupportedError: the model does what the engine has no operator for, or mixes the samples of a batch; each
            such operation is named, with its place.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
        >>> print(lower(net, torch.zeros(1, 3, 8, 8)))
        #  kind     where  reads  writes  value         weights          with
        -  -------  -----  -----  ------  ------------  ---------------  ------------
           input                  input   F32[3, 8, 8]
        0  conv     0      input  v0      F32[8, 6, 6]  8x3x3x3, 1 kept  relu
        1  reshape  3      v0     v1      F32[288]                       shape=(288,)
        2  linear   4      v1     v2      F32[10]       10x288, 1 kept
        3 operators, 4 constants of 3,114 numbers; the outputs are v2
    """
    model = unwrap(model)
    leaves = tracing.leaves(model, example)
    samples, wanted = tracing.sizes(leaves)
    with in_eval_mode(model), torch.no_grad():
        plans = [_lowered(model, example, leaves, (samples, each)) for each in wanted]
    # What was computed from the number of samples differs between the two.
    difference = first_difference(*plans)
    if difference:
        raise UnsupportedError(f"{type(model).__name__} computes with the number of samples in a batch: {difference}")
    plan = finished(fused(plans[0]))
    check(plan)
    return plan


def _lowered(model: nn.Module, example: Any, leaves: list[tracing.Leaf], samples: tuple[int, int]) -> Plan:
    """Return the plan of one trace, as it comes."""
    args, kwargs = tracing.repeated(example, *samples)
    program = tracing.program(model, args, kwargs, lambda node: rule_of(RULES, node) is not None)
    walk = Walk(RULES, samples[1])
    inputs = _bind(walk, program, leaves, samples[0])
    for node in program.graph.nodes:
        if node.op == "get_attr":
            known = attrgetter(node.target)(program.graph_module)
            walk.known[node] = Fixed(known.cpu()) if isinstance(known, Tensor) else known
        elif node.op == "call_function":
            walk.call(node)
    outputs: list[str] = []
    structure = _structure(walk, program, outputs)
    if walk.refusals:
        listed = "".join(f"\n  {refusal}" for refusal in walk.refusals)
        raise UnsupportedError(
            f"the engine has no operator for {len(walk.refusals)} operations of {type(model).__name__}:{listed}"
        )
    names = [name for name in inputs if name is not None]
    plan = walk.builder.plan(names, outputs)
    arguments = tracing.tree(model, example, iter(inputs))
    return Plan(plan.inputs, plan.outputs, plan.values, plan.ops, plan.constants, arguments, structure)


def _bind(walk: Walk, program: Any, leaves: list[tracing.Leaf], samples: int) -> list[str | None]:
    """Make known what the graph is given; return the name in the plan of each input, None for what is not used."""
    stored = {**program.state_dict, **program.constants}
    given = iter(leaves)
    inputs: list[str | None] = []
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node, spec in zip(nodes, program.graph_signature.input_specs, strict=True):
        if spec.kind != InputKind.USER_INPUT:
            known = stored[spec.target]
            walk.known[node] = Fixed(known.detach().cpu(), spec.target) if isinstance(known, Tensor) else known
            continue
        leaf = next(given)
        if not isinstance(leaf.value, Tensor):
            walk.known[node] = leaf.value
            inputs.append(None)
            continue
        used = bool(node.users)
        if used and (leaf.value.ndim == 0 or len(leaf.value) != samples):
            raise tracing.ExampleError(
                f"the input {leaf.place} has the shape {list(leaf.value.shape)}, but a batch axis of {samples} is "
                "expected first, as in the first input; what is the same for every sample belongs into the model, "
                "as a buffer"
            )
        inputs.append(walk.take(node, spec.arg.name) if used else None)
    return inputs


def _structure(walk: Walk, program: Any, outputs: list[str]) -> dict[str, Any]:
    """Return how the result of a call holds the outputs, whose names are added to ``outputs``."""
    (last,) = (node for node in program.graph.nodes if node.op == "output")
    described: list[_Leaf] = []
    for spec, node in zip(program.graph_signature.output_specs, last.args[0], strict=True):
        if spec.kind == OutputKind.BUFFER_MUTATION:
            walk.refusals[f"a write to the buffer {spec.target}"] = None
        if spec.kind != OutputKind.USER_OUTPUT:
            continue
        try:
            described.append(_Leaf(_output(walk, walk.known[node] if hasattr(node, "op") else node, outputs)))
        except Refused as refused:
            walk.refusals[f"output {len(described)} of the model: {refused}"] = None
            described.append(_Leaf({"ignored": True}))
    result = torch.utils._pytree.tree_unflatten(described, program.call_spec.out_spec)
    return _tree(result)


class _Leaf:
    """One output of the model, described; of a class of its own so that trees do not look into it."""

    def __init__(self, described: dict[str, Any]) -> None:
        self.described = described


def _output(walk: Walk, found: Any, outputs: list[str]) -> dict[str, Any]:
    if isinstance(found, Fixed):
        if found.tensor.ndim == 0 or len(found.tensor) != walk.samples:
            raise Refused("it does not depend on the input")
        batch = Batch(0, 1, 1, walk.samples)
        name = walk.filled(Call("output", {}, (), torch.float32, ""), found.sampled(batch, found.tensor.ndim))
        found = walk.live(name, found.shape, batch)
    if not isinstance(found, Live):
        if found is None or isinstance(found, bool | int | float | str):
            return {"constant": found}
        raise Refused(f"it is a {type(found).__name__}")
    if found.batch.dim != 0 or found.batch.outer != 1:
        raise Refused("its first axis is not the batch")
    outputs.append(found.name)
    return {"value": found.name, **({"merged": True} if found.batch.merged > 1 else {})}


def _tree(thing: Any) -> dict[str, Any]:
    if isinstance(thing, _Leaf):
        return thing.described
    if isinstance(thing, Mapping):
        return {"dict": {str(name): _tree(each) for name, each in thing.items()}}
    if isinstance(thing, list):
        return {"list": [_tree(each) for each in thing]}
    if isinstance(thing, tuple):
        return {"tuple": [_tree(each) for each in thing]}
    if thing is None:
        return {"constant": None}
    raise UnsupportedError(f"the model returns a {type(thing).__name__}; known are tensors, tuples, lists and dicts")
