"""Fusions: each takes a plan and returns one that computes the same with fewer operators."""

from __future__ import annotations

from secateur.engine.plan import Plan

__all__ = ["fused"]


def fused(plan: Plan) -> Plan:
    return plan
