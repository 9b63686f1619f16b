"""BatchNorm statistics of the pruned network instead of those of the dense one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.modules import in_eval_mode, unwrap

__all__ = ["recalibrate"]


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Estimate running means and variances of every BatchNorm anew, as plain means over the batches.

    Pruning shifts and shrinks what reaches a BatchNorm; its stored statistics then normalise wrongly, and much of
    the accuracy lost without retraining is lost there. No weight changes.

    Source: Li et al. 2020, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning"
    (arXiv 2007.02491), section 3.3.

    Args:
        model: the network; its mode (train or eval) is put back afterwards.
        batches: inputs of training data, each the same size or nearly; without any nothing changes.

    Raises:
        TypeError: a batch is no tensor, as where a data loader gives labels too; nothing has changed then.

    Returns:
        The number of BatchNorm modules with running statistics.

    Example:
        >>> net = nn.Sequential(nn.BatchNorm1d(1)).eval()
        >>> recalibrate(net, [torch.tensor([[4.0], [6.0]])]), float(net[0].running_mean)
        (1, 5.0)
    """
    model = unwrap(model)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    inputs = iter(batches)
    first = next(inputs, None)
    if first is None or not norms:
        return len(norms)
    momenta = [norm.momentum for norm in norms]
    before = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    with in_eval_mode(model):  # dropout stays off
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.train()
                norm.momentum = None  # the plain mean
            for batch in itertools.chain([first], inputs):
                if not isinstance(batch, Tensor):
                    raise TypeError(f"batches are tensors of inputs alone, and one is a {type(batch).__name__}")
                model(batch)
        except BaseException:
            for norm, buffers in zip(norms, before, strict=True):
                for name, buffer in norm.named_buffers():
                    buffer.copy_(buffers[name])
            raise
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return len(norms)
