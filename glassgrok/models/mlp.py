"""A multilayer perceptron that begins as PyTorch's linear layers do."""

import jax
import jax.numpy as jnp
from flax import linen as nn

ACTIVATIONS = ("tanh", "relu", "leaky_relu")


def torch_uniform(fan_in: int):
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): kernels and biases of torch.nn.Linear, among others.

    Args:
        fan_in: inputs of a unit.

    Returns:
        (key, shape, dtype) -> array, as Flax takes it.
    """

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return init


class MLP(nn.Module):
    """x -> W_L f(... f(W_1 x + b_1) ...) + b_L, from `torch_uniform`; inputs are flattened.

    Attributes:
        features: width of each layer, the output last.
        activation: f, one of `ACTIVATIONS`.
        bias: whether layers have biases.
        slope: of leaky_relu below 0; 0.01 is PyTorch's own.

    Raises:
        ValueError: the activation is unknown, or a width is below 1.
    """

    features: tuple[int, ...]
    activation: str = "relu"
    bias: bool = True
    slope: float = 0.01

    def __post_init__(self):
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is {self.activation!r}, but must be one of: {', '.join(ACTIVATIONS)}."
            )
        if not self.features or min(self.features) < 1:
            raise ValueError(f"features must be widths from 1, but are {self.features}.")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs):
        """Inputs (n, ...) -> outputs (n, features[-1])."""
        x = inputs.reshape(len(inputs), -1)
        for layer, width in enumerate(self.features):
            if layer:
                x = self._active(x)
            draw = torch_uniform(x.shape[-1])
            x = nn.Dense(width, self.bias, kernel_init=draw, bias_init=draw, name=f"layer_{layer}")(
                x
            )
        return x

    def _active(self, x):
        if self.activation == "leaky_relu":
            return nn.leaky_relu(x, self.slope)
        return nn.tanh(x) if self.activation == "tanh" else nn.relu(x)
