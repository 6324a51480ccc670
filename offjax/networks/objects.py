"""An MLP for observations that list several objects of one kind side by side.

    s = [r, o_1 … o_N],   x_i = f(r, o_i),   w = softmax(q(s, c)),
    out = g(r, Σ_i w_i x_i, c)

c is the condition, such as a goal. All objects are read with the same weights f, so
that what is learned of one holds for all; the attention w, of several heads, picks the
ones that matter. A plain MLP has to learn everything once for each object, and for each
choice among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from offjax.errors import UserError
from offjax.networks.mlp import MLP
from offjax.types import Array

Objects = tuple[int, ...]
"""First column, number and width of the objects; () for none."""


class ObjectMLP(nn.Module):
    """See the module.

    Attributes:
      hidden_dims: widths of g's hidden layers.
      object_dims: widths of f's layers.
      query_dim: width of q's hidden layer.
      num_heads: of the attention; two, as instructions name two objects at most.
    """

    objects: Objects
    hidden_dims: Sequence[int]
    output_dim: int
    object_dims: Sequence[int] = (128, 128)
    query_dim: int = 128
    num_heads: int = 2

    @nn.compact
    def __call__(self, observations: Array, condition: Array) -> Array:
        """[..., O], [..., C] → [..., output_dim]."""
        first, count, width = self.objects
        lead, end = observations.shape[:-1], first + count * width
        before, listed, after = jnp.split(observations, (first, end), axis=-1)
        rest = jnp.concatenate([before, after], axis=-1)
        shared = jnp.broadcast_to(rest[..., None, :], (*lead, count, rest.shape[-1]))
        own = listed.reshape(*lead, count, width)
        x = jnp.concatenate([shared, own], axis=-1)
        for size in self.object_dims:
            x = nn.gelu(nn.LayerNorm()(nn.Dense(size)(x)))
        asked = jnp.concatenate([observations, condition], axis=-1)
        query = MLP((self.query_dim,), self.num_heads * count, nn.gelu, layer_norm=True)
        scores = query(asked).reshape(*lead, self.num_heads, count)
        picked = jnp.einsum("...hn,...nd->...hd", jax.nn.softmax(scores), x)
        inputs = [rest, picked.reshape(*lead, -1), condition]
        policy = MLP(self.hidden_dims, self.output_dim, nn.gelu, layer_norm=True)
        return policy(jnp.concatenate(inputs, axis=-1))


def check_objects(objects: Objects, observation_dim: int) -> None:
    """Raises `UserError` for objects that observations cannot hold."""
    if not objects:
        return
    if len(objects) != 3 or min(objects[1:]) < 1 or objects[0] < 0:
        raise UserError(
            f"objects={objects}: name the first column, the number and the width of "
            "objects of one kind, such as 19,3,9; or nothing."
        )
    first, count, width = objects
    if first + count * width > observation_dim:
        raise UserError(
            f"objects={objects}: {count} objects of {width} columns from {first} "
            f"on do not fit into observations of {observation_dim} columns."
        )
