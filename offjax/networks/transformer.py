"""One causal transformer over trajectories, for Decision Transformer and Reinformer.

Every step of a trajectory gives three tokens (return-to-go, observation, action, in a
model's own order). Each is a linear embedding plus a learned embedding of the time
step, which is shared by the step's three tokens; there is no other position code.

    pre-norm  (GPT-2, Decision Transformer)   x += A(LN x);  x += M(LN x);  final LN
    post-norm (Reinformer)                    x = LN(x + A x);  x = LN(x + M x)

Attention is `jax.nn.dot_product_attention`, which knows no dropout of the attention
weights. `attention_dropout="output"` (as Reinformer's code) drops entries of the
attended values instead; "weights" (as GPT-2) writes the attention out while it trains
with a rate above 0, and is the same function otherwise.

A model reads the hidden vectors of one or two of the three tokens. The last block
computes only those (`reads`), which halves the work of a network of one block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from offjax.errors import UserError
from offjax.networks.initializers import symmetric_uniform
from offjax.types import Array, Statistics

Activation = Callable[[Array], Array]


class Steps(NamedTuple):
    """What a transformer reads: [B, K, …], or [K, …] for one acting agent.

    `mask` says which steps may be attended to. None is all of them, which is enough
    where padding stands at the right of a segment, since attention is causal.
    """

    observations: Array  # [B, K, O] normalized
    actions: Array  # [B, K, A] in the unit box
    returns: Array  # [B, K] scaled returns-to-go
    timesteps: Array  # [B, K] int, steps since the episode began
    mask: Array | None = None  # [B, K] bool


TOKENS = ("returns", "observations", "actions")
HISTORIES = ("executed", "base")
"""What a context remembers: the action that was executed, or the one that an
improvement operator began with."""
UNSEEN = ("last", "untrained")
"""Time embedding of time steps that the data lack: of the last one that they have, or
the one that was never trained."""


def exact_gelu(x: Array) -> Array:
    """GELU with the error function, not its tanh approximation."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Activation] = {"relu": jax.nn.relu, "gelu": exact_gelu}


class Linear(nn.Module):
    """Affine map.

    Initialization "uniform" draws all from ±1/√in (PyTorch's default), "normal" draws
    weights from N(0, 0.02²) with zero biases (GPT-2's).
    """

    width: int
    initialization: str = "uniform"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., in] → [..., width]."""
        fan_in = x.shape[-1]
        weights = biases = symmetric_uniform(fan_in**-0.5)
        if self.initialization == "normal":
            weights, biases = nn.initializers.normal(0.02), nn.initializers.zeros
        kernel = self.param("kernel", weights, (fan_in, self.width))
        return x @ kernel + self.param("bias", biases, (self.width,))


class Dropout(nn.Module):
    """Drops entries with probability `rate` and scales the others by 1 / (1 - rate).

    The random bits are what dropout costs, on CPUs above all: 16 bits decide about an
    entry, so that the rate is rounded to a multiple of 2⁻¹⁶.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[...] → [...]; the identity unless `train`. Reads the rng "dropout"."""
        if not train or self.rate == 0.0:
            return x
        words = jax.random.bits(
            self.make_rng("dropout"), ((x.size + 1) // 2,), "uint32"
        )
        halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)
        threshold = round(self.rate * 2**16)
        keep = halves[: x.size].reshape(x.shape) >= threshold
        return jnp.where(keep, x / (1 - threshold / 2**16), 0.0)


def _pick(x: Array, tokens: tuple[int, ...]) -> Array:
    """Of [B, 3 K, …] the given ones of every step's three tokens.

    Slices, since the gradient of a gather is a scatter, which is slow.
    """
    if len(tokens) == 3:
        return x
    picked = jnp.stack([x[:, token::3] for token in tokens], axis=2)
    return picked.reshape(x.shape[0], -1, *x.shape[2:])


class Attention(nn.Module):
    """Causal multi-head self-attention with its output projection."""

    num_heads: int
    dropout: float = 0.1
    attention_dropout: str = "weights"
    initialization: str = "uniform"

    @nn.compact
    def __call__(
        self, x: Array, mask: Array | None, reads: tuple[int, ...], train: bool
    ) -> Array:
        """[B, 3 K, width], keys' mask or None → the same at the tokens in `reads`."""
        width = x.shape[-1]

        def heads(name: str, tokens: Array) -> Array:
            out = Linear(width, self.initialization, name=name)(tokens)
            return out.reshape(*out.shape[:-1], self.num_heads, width // self.num_heads)

        query = heads("query", _pick(x, reads))
        key, value = heads("key", x), heads("value", x)
        positions = jnp.arange(x.shape[1])[None]
        causal = positions <= _pick(positions, reads)[0][:, None]
        allowed = causal[None, None]
        if mask is not None:
            allowed = allowed & mask[:, None, None, :]
        if train and self.dropout > 0 and self.attention_dropout == "weights":
            out = self._with_weight_dropout(query, key, value, allowed)
        else:
            out = jax.nn.dot_product_attention(query, key, value, mask=allowed)
            if self.attention_dropout == "output":
                out = Dropout(self.dropout)(out, train)
        out = out.reshape(*out.shape[:-2], width)
        out = Linear(width, self.initialization, name="out")(out)
        return Dropout(self.dropout)(out, train)

    def _with_weight_dropout(self, query, key, value, allowed):
        """The same attention, its weights dropped at random."""
        logits = jnp.einsum("btnh,bsnh->bnts", query, key) / jnp.sqrt(query.shape[-1])
        logits = jnp.where(allowed, logits, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(logits)
        weights = Dropout(self.dropout)(weights, True)
        return jnp.einsum("bnts,bsnh->btnh", weights, value)


class Block(nn.Module):
    """Attention and a two-layer perceptron of 4 widths, with residuals and norms."""

    num_heads: int
    dropout: float = 0.1
    attention_dropout: str = "weights"
    pre_norm: bool = True
    activation: str = "relu"
    initialization: str = "uniform"

    @nn.compact
    def __call__(
        self, x: Array, mask: Array | None, reads: tuple[int, ...], train: bool
    ) -> Array:
        """[B, 3 K, width], keys' mask or None → the same at the tokens in `reads`."""
        attention = Attention(
            self.num_heads,
            self.dropout,
            self.attention_dropout,
            self.initialization,
            name="attention",
        )
        norms = nn.LayerNorm(1e-5, name="norm1"), nn.LayerNorm(1e-5, name="norm2")
        if self.pre_norm:
            x = _pick(x, reads) + attention(norms[0](x), mask, reads, train)
            return x + self._mlp(norms[1](x), train)
        x = norms[0](_pick(x, reads) + attention(x, mask, reads, train))
        return norms[1](x + self._mlp(x, train))

    def _mlp(self, x: Array, train: bool) -> Array:
        hidden = Linear(4 * x.shape[-1], self.initialization, name="hidden")(x)
        out = Linear(x.shape[-1], self.initialization, name="output")(
            ACTIVATIONS[self.activation](hidden)
        )
        return Dropout(self.dropout)(out, train)


class TrajectoryTransformer(nn.Module):
    """Causal transformer over the tokens of a trajectory.

    Attributes:
      order: the three `TOKENS` in the order in which a step gives them.
      reads: tokens whose hidden vectors the model reads.
      width: size of the tokens.
      max_timesteps: entries of the table of time embeddings.
      dropout: rate of every dropout.
      attention_dropout: "weights" or "output", see the module's docstring.
      pre_norm: norms before the sublayers and a final one; else after them.
      activation: of the perceptrons, "relu" or "gelu".
      embedding_dropout: dropout of the embedded tokens.
      body_init: initialization of the blocks, see `Linear`.
      outer_init: initialization of the embeddings.
      time_std: of the time embeddings at first; 0: 1 (PyTorch's), or 0.02 where
        `outer_init` is "normal".
    """

    order: tuple[str, str, str] = TOKENS
    reads: tuple[str, ...] = TOKENS
    num_layers: int = 3
    num_heads: int = 1
    width: int = 128
    max_timesteps: int = 1000
    dropout: float = 0.1
    attention_dropout: str = "weights"
    pre_norm: bool = True
    activation: str = "relu"
    embedding_dropout: bool = True
    body_init: str = "uniform"
    outer_init: str = "uniform"
    time_std: float = 0.0

    @nn.compact
    def __call__(self, steps: Steps, train: bool = False) -> dict[str, Array]:
        """Hidden vectors [B, K, width] at the tokens in `reads`, by the token's name.

        Where it trains, dropout is active and needs the rng "dropout".
        """
        inputs = {
            "observations": steps.observations,
            "actions": steps.actions,
            "returns": steps.returns[..., None],
        }
        std = self.time_std or (1.0 if self.outer_init == "uniform" else 0.02)
        table = nn.Embed(
            self.max_timesteps,
            self.width,
            embedding_init=nn.initializers.normal(std),
            name="time",
        )
        time = table(steps.timesteps)
        tokens = [
            Linear(self.width, self.outer_init, name=name)(inputs[name])
            for name in self.order
        ]
        x = jnp.stack(tokens, axis=2)
        batch, length = steps.timesteps.shape
        x = (x + time[:, :, None]).reshape(batch, 3 * length, self.width)
        x = nn.LayerNorm(1e-5, name="embedding_norm")(x)
        if self.embedding_dropout:
            x = Dropout(self.dropout)(x, train)
        keys = None if steps.mask is None else jnp.repeat(steps.mask, 3, axis=1)
        last = tuple(i for i in range(3) if self.order[i] in self.reads)
        for i in range(self.num_layers):
            block = Block(
                self.num_heads,
                self.dropout,
                self.attention_dropout,
                self.pre_norm,
                self.activation,
                self.body_init,
                name=f"block{i}",
            )
            reads = last if i == self.num_layers - 1 else (0, 1, 2)
            x = block(x, keys, reads, train)
        if self.pre_norm:
            x = nn.LayerNorm(1e-5, name="final_norm")(x)
        x = x.reshape(batch, length, len(last), self.width)
        return {self.order[token]: x[:, :, i] for i, token in enumerate(last)}


def check_sizes(
    context_length: int, max_timesteps: int, width: int, num_heads: int
) -> None:
    """Raises `UserError` for sizes that do not fit together."""
    if not 1 <= context_length <= max_timesteps:
        raise UserError(
            f"context_length is {context_length}, but the table of time embeddings "
            f"has max_timesteps={max_timesteps} entries: choose a context of 1 to "
            f"{max_timesteps} steps, or a larger max_timesteps."
        )
    if width % num_heads:
        raise UserError(
            f"width {width} cannot be divided among num_heads={num_heads}: choose a "
            "multiple of the number of heads."
        )


def example_steps(statistics: Statistics) -> Steps:
    """One step of zeros [1, 1, …], for the shapes of a network's parameters."""
    return Steps(
        jnp.zeros((1, 1, statistics.observation_mean.shape[-1])),
        jnp.zeros((1, 1, statistics.action_low.shape[-1])),
        jnp.zeros((1, 1)),
        jnp.zeros((1, 1), jnp.int32),
    )


def empty_window(length: int, observation_dim: int, action_dim: int) -> Steps:
    """The context [K, …] of an agent that has seen nothing: all of it masked."""
    return Steps(
        jnp.zeros((length, observation_dim)),
        jnp.zeros((length, action_dim)),
        jnp.zeros(length),
        jnp.zeros(length, jnp.int32),
        jnp.zeros(length, bool),
    )


def push(
    window: Steps, observation: Array, return_to_go: chex.Numeric, timestep: Array
) -> Steps:
    """The window [K, …] moved on by one step, the new one last, its action still 0."""
    new = Steps(
        observation,
        jnp.zeros_like(window.actions[0]),
        jnp.asarray(return_to_go, window.returns.dtype),
        timestep,
        jnp.array(True),
    )
    return jax.tree.map(
        lambda old, last: jnp.concatenate([old[1:], last[None]]), window, new
    )
