"""The pass of the landscape step in plain PyTorch, for `pass_rate.py` alone."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Transformer(nn.Module):
    """`glassgrok.Transformer` with one layer, its logits at the last position.

    Attributes:
        vocabulary: tokens and classes.
    """

    def __init__(self, vocabulary: int, d_model=128, heads=4, d_head=32, d_mlp=512):
        super().__init__()
        self.heads, self.d_head = heads, d_head
        self.embed = nn.Embedding(vocabulary, d_model)
        self.position = nn.Embedding(3, d_model)
        inner = heads * d_head
        self.query, self.key, self.value = (nn.Linear(d_model, inner, bias=False) for _ in range(3))
        self.output = nn.Linear(inner, d_model, bias=False)
        self.mlp_hidden, self.mlp_output = nn.Linear(d_model, d_mlp), nn.Linear(d_mlp, d_model)
        self.unembed = nn.Linear(d_model, vocabulary, bias=False)

    def forward(self, tokens):
        """Tokens (n, 3) -> logits (n, vocabulary)."""
        x = self.embed(tokens) + self.position.weight

        def split(layer):
            return layer(x).unflatten(-1, (self.heads, self.d_head)).transpose(1, 2)

        scores = split(self.query) @ split(self.key).transpose(-1, -2) / math.sqrt(self.d_head)
        causal = torch.ones(3, 3, dtype=torch.bool).tril()
        weights = scores.masked_fill(~causal, -1e9).softmax(dim=-1)
        mixed = (weights @ split(self.value)).transpose(1, 2).flatten(-2)
        x = x + self.output(mixed)
        x = x + self.mlp_output(F.relu(self.mlp_hidden(x)))
        return self.unembed(x[:, -1])


def load(model: Transformer, tree: dict) -> None:
    """Copy the parameters of the Flax model; kernels are transposed."""
    names = {
        "embed.weight": tree["embed"]["embedding"],
        "position.weight": tree["position"]["embedding"],
        "unembed.weight": tree["unembed"]["kernel"].T,
    }
    for name in ("query", "key", "value", "output"):
        names[f"{name}.weight"] = tree["attention_0"][name]["kernel"].T
    for name in ("hidden", "output"):
        names[f"mlp_{name}.weight"] = tree["mlp_0"][name]["kernel"].T
        names[f"mlp_{name}.bias"] = tree["mlp_0"][name]["bias"]
    model.load_state_dict({name: torch.tensor(array) for name, array in names.items()})


def gradients(model: Transformer) -> dict:
    """The gradient as the tree of the Flax parameters, NumPy arrays."""
    g = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    attention = {n: {"kernel": g[f"{n}.weight"].T} for n in ("query", "key", "value", "output")}
    mlp = {
        n: {"kernel": g[f"mlp_{n}.weight"].T, "bias": g[f"mlp_{n}.bias"]}
        for n in ("hidden", "output")
    }
    return {
        "embed": {"embedding": g["embed.weight"]},
        "position": {"embedding": g["position.weight"]},
        "attention_0": attention,
        "mlp_0": mlp,
        "unembed": {"kernel": g["unembed.weight"].T},
    }


def make_pass(model: Transformer, task, cotangents, compiled: bool = False):
    """One forward and one backward pass; the gradient is left in the parameters.

    Args:
        model: the network.
        task: a glassgrok Task.
        cotangents: two numbers, what u and A are multiplied by.
        compiled: through torch.compile.

    Returns:
        () -> (u, A).
    """
    tokens, labels = torch.tensor(task.inputs).long(), torch.tensor(task.labels).long()
    train, test = torch.tensor(task.train), torch.tensor(task.test)

    def observe():
        logits = model(tokens)
        u = F.cross_entropy(logits[train], labels[train]).log()
        own = logits.gather(1, labels[:, None])
        wrong = logits.scatter(1, labels[:, None], -1e30).amax(dim=1, keepdim=True)
        return u, torch.sigmoid(7.0 * (own - wrong)[test]).mean()

    observe = torch.compile(observe) if compiled else observe

    def run():
        model.zero_grad(set_to_none=True)
        u, a = observe()
        (cotangents[0] * u + cotangents[1] * a).backward()
        return float(u.detach()), float(a.detach())

    return run
