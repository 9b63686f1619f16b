"""The same network pruned in different ways: what is scored, what is removed together, what competes."""

import torch
from torch import nn
from torch.nn import functional

import secateur as sc


def main() -> dict[str, float]:
    """Return the sparsity each choice reaches on a small convolutional network."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 12),
    )  # fmt: skip
    batches = [(torch.randn(8, 3, 16, 16), torch.randint(12, (8,))) for _ in range(4)]
    stats = sc.stats.gradients(model, batches, functional.cross_entropy)

    weights = sc.prunable(model)
    scores = sc.criteria.magnitude(weights)
    by_loss = sc.criteria.gradient(weights, stats)
    chosen = {
        "the smallest weights of the whole model": sc.select(scores, 0.8),
        "the smallest weights of every layer": sc.select(scores, 0.8, scope=sc.PerTensor()),
        "larger layers sparser (ERK)": sc.select(scores, 0.8, scope=sc.PerTensor(), allocation=sc.erk),
        "layers made comparable (LAMP)": sc.select(sc.lamp(scores), 0.8),
        "what matters least to the loss (Taylor)": sc.select(by_loss, 0.8),
        "2:4, two of every four inputs stay": sc.select(
            sc.criteria.magnitude(sc.prunable(model, ignore=["0"])), scope=sc.Window(keep=2, of=4)
        ),
        "whole filters and neurons": sc.select(scores, 0.5, granularity=sc.Row(), scope=sc.PerTensor()),
        "blocks of 4 x 4": sc.select(scores, 0.8, granularity=sc.Block(4, 4)),
    }
    for name, masks in chosen.items():
        print(f"{name:<42} {masks.sparsity:.3f}  {masks}")
    return {name: masks.sparsity for name, masks in chosen.items()}


if __name__ == "__main__":
    main()
