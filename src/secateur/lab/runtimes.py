"""What can run a network on the CPU, each behind the same two steps: prepare it once, start it for a batch."""

from __future__ import annotations

import copy
import importlib.util
import tempfile
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental import optimization

import secateur as sc
from secateur.lab.timing import Block, timed
from secateur.vocabulary import MissingExtraError, SecateurError

__all__ = [
    "COMPILED",
    "CSR",
    "ENGINE",
    "ONNXRUNTIME",
    "OPENVINO",
    "TORCH",
    "Ready",
    "Runner",
    "Runtime",
    "ready_engine",
    "ready_onnx",
    "reason",
]


class UnsuitableError(SecateurError):
    """A runtime has nothing to do in this network."""


@dataclass(frozen=True)
class Runner:
    """A runtime that has its inputs: ``output`` computes once, ``block`` times calls."""

    output: Callable[[], Any]
    block: Block


@dataclass(frozen=True)
class Ready:
    """A runtime that has its network.

    Attributes:
        start: takes inputs and a number of threads; torch's own number of threads is as many when it is called and
            while the runner runs.
        note: what a reader must know of how the network runs.
    """

    start: Callable[[Tensor, int], Runner]
    note: str = ""


@dataclass(frozen=True)
class Runtime:
    """One way of running networks.

    Attributes:
        name: as tables show it.
        prepare: takes a network in eval mode and an example, and raises a :class:`SecateurError` that says why this
            runtime is not there, or that it has nothing to do in such a network.
    """

    name: str
    prepare: Callable[[nn.Module, Tensor], Ready]


def _runner(call: Callable[[], Any]) -> Runner:
    return Runner(call, timed(call))


def _folded(model: nn.Module) -> tuple[nn.Module, str]:
    """Return a copy of a network with batch norms folded into convolutions, and what there is to say of it."""
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return copy.deepcopy(model), ""
    try:
        return optimization.fuse(model), ""
    except Exception:  # torch.fx traces some networks only, and fails at the others in many ways
        return copy.deepcopy(model), "its batch norms are not folded, because torch.fx cannot trace the network"


def _torch(model: nn.Module, example: Tensor) -> Ready:
    folded, note = _folded(model)
    return Ready(lambda inputs, _: _runner(lambda: folded(inputs)), note)


def _compiled(model: nn.Module, example: Tensor) -> Ready:
    folded, note = _folded(model)

    def start(inputs: Tensor, threads: int) -> Runner:
        torch.compiler.reset()  # what was compiled is for another batch or number of threads
        fast = torch.compile(folded, dynamic=False)
        fast(inputs)
        return _runner(lambda: fast(inputs))

    return Ready(start, note)


class _Rows(nn.Module):
    """A linear layer whose weight is stored as compressed sparse rows."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch calls its sparse rows a beta
            rows = sc.to_csr({"weight": linear.weight})["weight"]
            # MKL takes indices of 32 bits as they are; torch's own, of 64, make products up to twice as slow.
            starts, columns = rows.crow_indices().int(), rows.col_indices().int()
            self.weight_OI = torch.sparse_csr_tensor(starts, columns, rows.values(), rows.shape)
        self.bias_O = torch.zeros(len(linear.weight)) if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b, as a product with a vector where there is but one."""
        x_NI = x.reshape(-1, x.shape[-1])
        if len(x_NI) == 1:
            y = torch.addmv(self.bias_O, self.weight_OI, x_NI[0])
        else:
            y = (self.weight_OI @ x_NI.t()).t() + self.bias_O
        return y.reshape(*x.shape[:-1], len(self.bias_O))


def _csr(model: nn.Module, example: Tensor) -> Ready:
    folded, note = _folded(model)
    sparse = [
        name
        for name, module in folded.named_modules()
        if isinstance(module, nn.Linear) and 2 * int(module.weight.count_nonzero()) <= module.weight.numel()
    ]
    if not sparse:
        raise UnsuitableError("no linear layer of the network is sparse to a half or more")
    for name in sparse:
        linear = folded.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        if not name:
            folded = _Rows(linear)
        else:
            owner, _, key = name.rpartition(".")
            setattr(folded.get_submodule(owner), key, _Rows(linear))
    return Ready(lambda inputs, _: _runner(lambda: folded(inputs)), note)


def _onnxruntime(model: nn.Module, example: Tensor) -> Ready:
    from secateur.integrations import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = onnx.export(model, example, Path(folder) / "model.onnx").path
        data = path.read_bytes()
    return ready_onnx(data)


def ready_onnx(data: bytes) -> Ready:
    """Return ONNX Runtime with the content of a file that :func:`secateur.integrations.onnx.export` wrote."""
    import onnxruntime

    def start(inputs: Tensor, threads: int) -> Runner:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # The file takes any batch; knowing it lets ONNX Runtime plan ahead.
        options.add_free_dimension_override_by_name("batch", len(inputs))
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: inputs.numpy()}
        return _runner(lambda: session.run(None, feed)[0])

    return Ready(start)


def _openvino(model: nn.Module, example: Tensor) -> Ready:
    if importlib.util.find_spec("openvino") is None:
        raise MissingExtraError("openvino is not installed: pip install 'secateur[openvino]'")
    import openvino

    converted = openvino.convert_model(model, example_input=example)

    def start(inputs: Tensor, threads: int) -> Runner:
        converted.reshape(list(inputs.shape))
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # like all others; some processors would compute in bfloat16
        }
        request = openvino.Core().compile_model(converted, "CPU", settings).create_infer_request()
        fed = [inputs.numpy()]
        return _runner(lambda: request.infer(fed, share_inputs=True, share_outputs=True)[0])

    return Ready(start)


def _engine(model: nn.Module, example: Tensor) -> Ready:
    return ready_engine(sc.compile(model, example))


def ready_engine(engine: sc.Engine) -> Ready:
    """Return an engine that is there already, of one input."""

    def start(inputs: Tensor, threads: int) -> Runner:
        engine.threads = threads
        given = inputs.numpy()
        return _runner(lambda: engine(given))

    return Ready(start)


def reason(error: Exception) -> str:
    """Return why a runtime cannot be used, in one line.

    Example:
        >>> reason(UnsuitableError("there is nothing to do")), reason(KeyError("x"))
        ('there is nothing to do', "it fails (KeyError: 'x')")
    """
    text = textwrap.shorten(str(error), 300)
    return text if isinstance(error, SecateurError) else f"it fails ({type(error).__name__}: {text})"


TORCH = Runtime("torch eager", _torch)
COMPILED = Runtime("torch.compile", _compiled)
CSR = Runtime("torch CSR", _csr)
ONNXRUNTIME = Runtime("ONNX Runtime", _onnxruntime)
OPENVINO = Runtime("OpenVINO", _openvino)
ENGINE = Runtime("engine", _engine)
