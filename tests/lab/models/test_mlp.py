import torch
from torch.nn.functional import relu

from secateur.lab.models.mlp import mlp


def test_the_output_is_that_of_the_formula():
    model, x = mlp((1, 2, 2), 3, [5, 4]), torch.randn(6, 1, 2, 2)
    hidden = x.flatten(1)
    for layer in (model.fc1, model.fc2):
        hidden = relu(hidden @ layer.weight.T + layer.bias)
    torch.testing.assert_close(model(x), hidden @ model.fc3.weight.T + model.fc3.bias)
