"""Prune neural networks and prove what the pruning bought."""
