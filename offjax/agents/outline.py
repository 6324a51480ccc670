"""What a state is made of, in JSON, and which of its arrays acting reads."""

from __future__ import annotations

import collections
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offjax.errors import UserError
from offjax.evaluation.rollout import Agent
from offjax.types import Actor, Params, Pytree


def outline(tree: Pytree) -> Any:
    """Names, shapes and types of a view's arrays, as JSON.

    Raises:
      UserError: the view holds something else than tuples, dicts and arrays.
    """
    if tree is None:
        return None
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return {"fields": [[n, outline(getattr(tree, n))] for n in tree._fields]}
    if isinstance(tree, dict):
        return {"entries": [[n, outline(tree[n])] for n in tree]}
    if isinstance(tree, tuple | list):
        return {"items": [outline(x) for x in tree]}
    if hasattr(tree, "shape") and hasattr(tree, "dtype"):
        return {"shape": list(tree.shape), "dtype": np.dtype(tree.dtype).name}
    raise UserError(
        f"The view holds a {type(tree).__name__}, which an archive cannot describe: "
        "let it hold NamedTuples, dicts and arrays."
    )


def shapes(outlined: Any) -> Pytree:
    """Shapes in a tree whose parts have the same names as what was outlined."""
    if outlined is None:
        return None
    if "fields" in outlined:
        names, values = zip(*outlined["fields"], strict=True)
        return collections.namedtuple("Arrays", names)(*map(shapes, values))  # type: ignore[misc]
    if "entries" in outlined:
        return {name: shapes(value) for name, value in outlined["entries"]}
    if "items" in outlined:
        return tuple(map(shapes, outlined["items"]))
    dtype = np.dtype(outlined["dtype"])
    return jax.ShapeDtypeStruct(tuple(map(int, outlined["shape"])), dtype)


def read_in_acting(
    agent: Agent, params: Params, observation_dim: int, dtype: Any = np.float32
) -> dict[str, list[bool]]:
    """Of each stage, which leaves of its state acting reads.

    Args:
      agent: acts.
      params: of one slot.
      observation_dim: length of an observation.
      dtype: of its entries.
    """
    actor = agent.actor

    def episode(params: Params, task: Pytree, observation: Any, key: Any) -> Pytree:
        carry = actor.begin(params, task, key)
        carry = actor.plan(params, carry, observation, key)
        action, carry = agent.act(params, carry, observation, jnp.float32(0), key)
        return action, actor.record(carry, action)

    observation = np.zeros(observation_dim, dtype)
    task = _example_task(actor, observation)
    traced = jax.make_jaxpr(episode)(params, task, observation, jax.random.PRNGKey(0))
    program = traced.jaxpr
    used = {id(x) for step in program.eqns for x in step.invars}
    used |= {id(x) for x in program.outvars}
    leaves, structure = jax.tree.flatten(params)
    flags = [id(x) in used for x in program.invars[: len(leaves)]]
    read = jax.tree.unflatten(structure, flags)
    return {name: jax.tree.leaves(m.state) for name, m in read.models.items()}


def _example_task(actor: Actor, observation: np.ndarray) -> Pytree:
    """A task of the shapes that the actor takes; None where it needs none."""
    if type(actor).embed is Actor.embed:
        return None
    task = {name: x[0] for name, x in actor.embed(["go"]).items()}
    if actor.given_goals:
        task["goals"] = observation[None]
    return task
