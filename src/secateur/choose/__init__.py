"""What to remove: pure functions on named tensors, from weights to scores to masks."""
