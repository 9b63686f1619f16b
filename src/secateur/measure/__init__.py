"""Proof of what pruning bought: sparsity, weights, bytes, multiply-adds, latency, memory."""

from secateur.measure.cost import Timing, latencies, latency
from secateur.measure.measuring import measure
from secateur.measure.report import Bytes, Latency, LayerReport, Macs, Report, Share

__all__ = ["Bytes", "Latency", "LayerReport", "Macs", "Report", "Share", "Timing", "latencies", "latency", "measure"]
