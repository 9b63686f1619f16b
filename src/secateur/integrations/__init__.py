"""Thin adapters to the frameworks people train with; each imports its framework when it is imported."""
