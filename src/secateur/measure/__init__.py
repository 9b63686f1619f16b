"""Proof of what pruning bought: sparsity, weights, bytes, multiply-adds, latency, memory."""

from secateur.measure.cost import Timing, latencies, latency
from secateur.measure.measuring import measure
from secateur.measure.report import Bytes, Latency, LayerReport, Macs, Report, Share
from secateur.measure.sensitivity import Sensitivity, sensitivity

__all__ = [
    "Bytes",
    "Latency",
    "LayerReport",
    "Macs",
    "Report",
    "Sensitivity",
    "Share",
    "Timing",
    "latencies",
    "latency",
    "measure",
    "sensitivity",
]
