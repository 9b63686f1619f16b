"""Data sets for the lab, decoded once into memory: digits, MNIST, Fashion-MNIST, CIFAR-10, the user's."""

from secateur.lab.data.batching import batch_count, batches
from secateur.lab.data.dataset import Dataset, Split, placed
from secateur.lab.data.loading import load, names
from secateur.lab.data.locate import MissingDataError
from secateur.lab.data.lookup import LabError

__all__ = [
    "Dataset",
    "LabError",
    "MissingDataError",
    "Split",
    "batch_count",
    "batches",
    "load",
    "names",
    "placed",
]
