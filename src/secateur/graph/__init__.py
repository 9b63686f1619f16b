"""Trace a model and find which of its units are coupled."""

from secateur.graph.coupling import Axis, Coupling, Group, Site, Size
from secateur.graph.following import TraceError, couple

__all__ = ["Axis", "Coupling", "Group", "Site", "Size", "TraceError", "couple"]
