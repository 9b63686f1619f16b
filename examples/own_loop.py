"""Gradual pruning inside a training loop of your own, on scikit-learn's bundled digits (a few seconds)."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import secateur as sc


def main() -> float:
    """Train a small network, prune it to sparsity 0.9 on the way, and return its accuracy on unseen digits."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    order = torch.randperm(len(x))
    train, test = order[:1400], order[1400:]

    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)

    # Three lines make it pruning: a schedule, a Pruner, and one call after each optimizer step.
    schedule = sc.PolynomialSchedule(0.0, 0.9, begin_step=200, end_step=800, frequency=20)
    pruner = sc.Pruner(model, optimizer, schedule, weights=sc.prunable(model))
    for _ in range(1200):
        batch = train[torch.randint(len(train), (64,))]
        functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    masks = pruner.finalize()

    accuracy = float((model(x[test]).argmax(1) == y[test]).float().mean())
    print(masks)
    print(f"test accuracy {accuracy:.3f}")
    print(sc.measure(model, x[:1], masks=masks, target_sparsity=0.9))
    return accuracy


if __name__ == "__main__":
    main()
