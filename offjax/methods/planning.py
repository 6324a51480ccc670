"""How planners act: a plan every few steps, under the instruction of the moment.

A planner plans in the latents of a low-level model, `Encoder`: rows [move, latent],
where a move is the next latent, or the actions up to it. `Recipe.acting["sampling"]`
says how plans are sampled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from offjax.datasets.text import Text
from offjax.distributions import Distribution, point
from offjax.errors import UserError
from offjax.methods.goals import Carry, InstructedActor, LanguageActor, goal_method
from offjax.methods.plans import PlannerState, encode_goal
from offjax.types import Array, Key, Method, Model, Params, Pytree

TOLERANCE = 0.1
"""Between the latents of one encoder on different devices; of another they differ by
about 1, for latents leave a layer norm."""
REMEDY = (
    "Act with the low-level policy of the planner's own run and seed, or train the "
    "planner again."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planner(Method):
    """A method that plans; its state is a `PlannerState`.

    Attributes:
      plan: `(model, latent, text, key, sampling) → rows [H, M + Z]` from the present
        latent [Z] under one instruction (`Text` without the axis N).
    """

    plan: Callable[..., Array]


def first_move(rows: Array, latent_dim: int) -> Array:
    """What a plan [rows, M + Z] does first, [M]."""
    return rows[0, : rows.shape[-1] - latent_dim]


def check_latents(state: PlannerState, latents: Array) -> None:
    """Refuses a low-level policy whose latents are not those planned in.

    Args:
      state: of a planner.
      latents: what the policy makes of `state.probe.observations`, [P, Z]. Inside a
        program their values are unknown, and only their shape is compared.

    Raises:
      UserError: they differ.
    """
    expected = state.probe.latents
    if latents.shape != expected.shape:
        raise UserError(
            f"The planner was trained on latents of {expected.shape[-1]} entries, but "
            f"the low-level policy has {latents.shape[-1]}. {REMEDY}"
        )
    error = jnp.max(jnp.abs(expected - latents))
    if isinstance(error, jax.core.Tracer):
        return
    if not error < TOLERANCE:
        raise UserError(
            "The planner was trained on the latents of another low-level policy: for "
            f"the same observations they differ by up to {error:.2g}. {REMEDY}"
        )


def read(task: Pytree, params: Params, encoder: Model) -> Text:
    """The task's instruction, {"tokens": [T, E], "mask": [T], ...}.

    `UserError` without one, or if the planner was trained in other latents than those
    of `encoder`.
    """
    if task is None:
        raise UserError(
            "This policy acts on an instruction, and none was given: evaluate it "
            "on instructions, or pass an embedded one as the task."
        )
    state = params.models["planner"].state
    check_latents(state, encode_goal(encoder, state.probe.observations))
    tokens, mask = jnp.asarray(task["tokens"]), jnp.asarray(task["mask"])
    return Text(tokens, mask, jnp.zeros(tokens.shape[-1]))


def plan_rows(params: Params, latent: Array, text: Text, key: Key) -> Array:
    """A plan [rows, M + Z] from the present latent [Z]."""
    model = params.models["planner"]
    assert isinstance(model.method, Planner)
    return model.method.plan(model, latent, text, key, params.acting["sampling"])


@dataclasses.dataclass(frozen=True)
class PlannedSubgoalActor(InstructedActor):
    """A planned latent every `period` steps; a low-level policy that pursues it."""

    def begin(self, params: Params, task: Pytree, key: Key) -> Carry:
        """No subgoal yet."""
        model = self.model(params)
        text = read(task, params, model)
        goal = jnp.zeros(params.models["planner"].state.probe.latents.shape[-1])
        return Carry(goal, goal_method(model).empty(model), text=text)

    def plan(self, params: Params, carry: Carry, observation: Array, key: Key) -> Carry:
        """A new subgoal from the present observation."""
        assert carry.text is not None
        plan_key, begin_key = jax.random.split(key)
        latent = encode_goal(self.model(params), observation)
        rows = plan_rows(params, latent, carry.text, plan_key)
        goal = first_move(rows, latent.shape[-1])
        return self.pursue(params, carry, observation, goal, begin_key)


class ActionCarry(NamedTuple):
    """The plan that is being executed."""

    text: Text
    actions: Array  # [L, A]
    index: Array  # [] next one


@dataclasses.dataclass(frozen=True)
class PlannedActionActor(LanguageActor):
    """A plan of actions every `period` steps, executed open-loop in between."""

    def begin(self, params: Params, task: Pytree, key: Key) -> ActionCarry:
        """An empty plan."""
        model, planner = self.model(params), params.models["planner"].config
        text = read(task, params, model)
        steps = planner.stride * (params.acting["sampling"].rows or planner.horizon)
        if self.period > steps:
            raise UserError(
                f"replan is {self.period}, but a plan holds {steps} actions: choose "
                f"1 … {steps}, or a longer plan."
            )
        actions = jnp.zeros((steps, model.state.action_box.low.shape[-1]))
        return ActionCarry(text, actions, jnp.int32(0))

    def plan(
        self, params: Params, carry: ActionCarry, observation: Array, key: Key
    ) -> ActionCarry:
        """New actions from the present observation."""
        model = self.model(params)
        latent = encode_goal(model, observation)
        rows = plan_rows(params, latent, carry.text, key)
        moves = rows[:, : rows.shape[-1] - latent.shape[-1]]
        actions = moves.reshape(carry.actions.shape) + model.state.action_box.shift
        return ActionCarry(carry.text, actions, jnp.int32(0))

    def act(
        self,
        params: Params,
        carry: ActionCarry,
        observation: Array,
        reward: Array,
        key: Key,
    ) -> tuple[Distribution, ActionCarry]:
        """The plan's next action, a point."""
        box = self.model(params).state.action_box
        distribution = point(carry.actions[carry.index], box.shift, box.scale)
        return distribution, carry._replace(index=carry.index + 1)
