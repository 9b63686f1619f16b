"""A Keras model on the torch backend as ``torch.export`` can follow it: variables as parameters, layers as modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from torch import nn

from secateur.graph.coupling import Coupling
from secateur.graph.following import TraceError
from secateur.graph.following import couple as core_couple
from secateur.integrations.keras.targets import as_tensor, read
from secateur.vocabulary import BadTargetError

__all__ = ["Traced", "couple", "example_for", "given"]


class Traced(nn.Module):
    """A Keras model whose variables are the parameters of a torch module.

    Keras layers read variables of their own, which ``torch.export`` would take for constants; here the model is called
    without state, on parameters that stand in for them.

    Attributes:
        variables: those of the model, by the names of the parameters that stand in for them.
        layers: those of the model, by the names that messages and sizes have for them.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple, so that its parameters are not this module's too
        self.variables: dict[str, Any] = {}
        for variable in (*model.trainable_variables, *model.non_trainable_variables):
            name = self._free(variable.path)
            self.variables[name] = variable
            value = read(variable).cpu()
            if value.is_floating_point():
                self.register_parameter(name, nn.Parameter(value, requires_grad=False))
            else:
                self.register_buffer(name, value)
        self.layers: dict[str, Any] = {}
        for layer in model._flatten_layers(include_self=False):
            if not isinstance(layer, keras.layers.InputLayer):
                name = self._free(layer.name)
                self.layers[name] = layer
                self.add_module(name, _Place(layer))

    def _free(self, wanted: str) -> str:
        """Return a name that nothing of this module has yet."""
        return next(each for n in range(100_000) if not hasattr(self, each := f"{wanted}:{n}" if n else wanted))

    @property
    def model(self) -> Any:
        """Return the Keras model."""
        return self._model[0]

    def forward(self, inputs: Any) -> Any:
        """Call the model, not for training."""
        model = self.model
        values = {id(variable): getattr(self, name) for name, variable in self.variables.items()}
        with contextlib.ExitStack() as stack:
            for name, layer in self.layers.items():
                stack.enter_context(_instead(layer, self.get_submodule(name)))
            trainable, other = model.trainable_variables, model.non_trainable_variables
            outputs, _ = model.stateless_call(
                [values[id(v)] for v in trainable], [values[id(v)] for v in other], inputs, training=False
            )
        return outputs


class _Place(nn.Module):
    """Where a layer is called, so that the graph knows which operations are its own."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._call = (layer.call,)

    def forward(self, *args: Any, **keywords: Any) -> Any:
        return self._call[0](*args, **keywords)


@contextlib.contextmanager
def _instead(layer: Any, place: nn.Module) -> Iterator[None]:
    layer.__dict__["call"] = place
    try:
        yield
    finally:
        del layer.__dict__["call"]


def couple(model: Any, example: Any = None) -> Coupling:
    """Follow the units of a Keras model from the weights that write them to those that read them.

    Names and axes are those of the model's variables: a Dense kernel of shape (in, out) writes along axis 1.

    Args:
        model: a built ``keras.Model`` on the torch backend; it is not changed.
        example: an array, or what else the model takes, its first axis the batch; made up if left out.

    Returns:
        The coupling, as :func:`secateur.couple` gives it; it prints as a table.

    Raises:
        BadTargetError: the backend is another, or no example can be made up.
        TraceError: the model cannot be traced.

    Example:
        >>> import keras
        >>> from secateur.integrations import keras as sk
        >>> dense = keras.layers.Dense
        >>> model = keras.Sequential([keras.Input((4,)), dense(8, name="a"), dense(2, name="b")], name="net")
        >>> print(sk.couple(model))
        units  written by    read by       left whole because
        -----  ------------  ------------  ----------------------
        8      net/a/kernel  net/b/kernel
        2      net/b/kernel  -             an output of the model
    """
    if keras.backend.backend() != "torch":
        raise BadTargetError(
            f"units are followed on the torch backend, this is {keras.backend.backend()}: save the model, and load it "
            "where KERAS_BACKEND=torch is set"
        )
    example = example_for(model) if example is None else example
    try:
        with keras.device("cpu"):
            return core_couple(Traced(model), (given(example),))
    except TraceError as error:
        raise TraceError(str(error).replace(Traced.__name__, str(model.name), 1)) from error


def given(example: Any) -> Any:
    """Return an example as torch tensors on the CPU, whatever arrays it is made of."""

    return keras.tree.map_structure(as_tensor, example)


def example_for(model: Any, batch: int = 2) -> Any:
    """Make up what a model takes, of noise, for a model whose inputs have known shapes.

    Args:
        model: a sequential or functional ``keras.Model``.
        batch: the size of the first axis.

    Returns:
        Float32 NumPy arrays, in the structure of the model's inputs; the same each time.

    Raises:
        BadTargetError: an input has an axis of unknown size, holds no floats, or the model knows none of its inputs.

    Example:
        >>> import keras
        >>> example_for(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])).shape
        (2, 4)
    """
    generator = np.random.default_rng(0)

    def draw(spec: Any) -> Any:
        shape = tuple(spec.shape)[1:]
        if None in shape or not keras.backend.is_float_dtype(spec.dtype):
            raise BadTargetError(
                f"the input {spec.name!r} of {model.name} is {tuple(spec.shape)} of {spec.dtype}: give an example of it"
            )
        return generator.standard_normal((batch, *shape), dtype=np.float32)

    try:
        inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    except AttributeError as error:
        raise BadTargetError(f"{model.name} does not know the shapes of its inputs: give an example of them") from error
    return keras.tree.map_structure(draw, inputs)
