"""How planners act: a plan every few steps, under the instruction of the moment."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from offjax.algorithms import diffusion_planner
from offjax.distributions import Distribution, point
from offjax.errors import UserError
from offjax.networks.language import Text
from offjax.types import Key, Params, Policy, Pytree


@dataclasses.dataclass(frozen=True)
class LanguagePolicy(Policy):
    """What planners have in common.

    A task is one embedded instruction, {"tokens": [T, E], "mask": [T], ...}.

    Attributes:
      period: steps between plans.
      planner: module of the planner.
      encoder: module of what encodes observations.
      encoder_stage: the stage of its state.
    """

    period: int = 1
    planner: Any = None
    encoder: Any = None
    encoder_stage: str = ""

    def latent(self, params: Params, observations: chex.Array) -> chex.Array:
        """Latents [..., Z] of raw observations [..., O]."""
        state = params.states[self.encoder_stage]
        config = params.configs[self.encoder_stage]
        return self.encoder.encode_goal(state, observations, config)

    def check(self, params: Params, task: Pytree) -> None:
        """Refuses parts that do not belong together.

        Inside a program values are unknown; there only shapes are compared.

        Raises:
          UserError: no instruction, or a planner trained in other latents.
        """
        if task is None:
            raise UserError(
                "This policy acts on an instruction, and none was given: evaluate it "
                "on instructions, or pass an embedded one as the task."
            )
        state = params.states["planner"]
        latents = self.latent(params, state.probe.observations)
        parts = jax.tree.leaves((latents, state.probe))
        if any(isinstance(x, jax.core.Tracer) for x in parts):
            diffusion_planner.check_shapes(state, latents.shape)
        else:
            diffusion_planner.check_latents(state, latents)

    def rows(
        self, params: Params, latent: chex.Array, text: Text, key: Key
    ) -> chex.Array:
        """A plan [rows, M + Z] from the present latent [Z]."""
        return self.planner.plan(
            params.states["planner"],
            latent,
            text,
            key,
            params.configs["planner"],
            params.configs["sampling"],
        )


def _text(task: Pytree) -> Text:
    tokens, mask = jnp.asarray(task["tokens"]), jnp.asarray(task["mask"])
    return Text(tokens, mask, jnp.zeros(tokens.shape[-1]))


class SubgoalCarry(NamedTuple):
    """The subgoal, and what the low-level policy remembers."""

    text: Text
    goal: chex.Array  # [Z]
    low: Pytree


@dataclasses.dataclass(frozen=True)
class PlannedSubgoalPolicy(LanguagePolicy):
    """A planned latent every `period` steps; a low-level policy that pursues it."""

    def init(self, params: Params, task: Pytree, key: Key) -> SubgoalCarry:
        """No subgoal yet."""
        del key
        self.check(params, task)
        state = params.states[self.encoder_stage]
        low = self.encoder.empty(state, params.configs[self.encoder_stage])
        goal = jnp.zeros(params.states["planner"].probe.latents.shape[-1])
        return SubgoalCarry(_text(task), goal, low)

    def plan(
        self, params: Params, carry: SubgoalCarry, observation: chex.Array, key: Key
    ) -> SubgoalCarry:
        """A new subgoal from the present observation."""
        plan_key, begin_key = jax.random.split(key)
        latent = self.latent(params, observation)
        rows = self.rows(params, latent, carry.text, plan_key)
        goal = diffusion_planner.first_move(rows, latent.shape[-1])
        low = self.encoder.begin(
            params.states[self.encoder_stage],
            observation,
            goal,
            begin_key,
            params.configs[self.encoder_stage],
        )
        return SubgoalCarry(carry.text, goal, low)

    def propose(
        self,
        params: Params,
        carry: SubgoalCarry,
        observation: chex.Array,
        reward: chex.Array,
        key: Key,
    ) -> tuple[Distribution, SubgoalCarry]:
        """The low-level policy's action towards the subgoal."""
        del reward
        distribution, low = self.encoder.distribution_for_goal(
            params.states[self.encoder_stage],
            carry.low,
            observation,
            carry.goal,
            key,
            params.configs[self.encoder_stage],
        )
        return distribution, carry._replace(low=low)


class ActionCarry(NamedTuple):
    """The plan that is being executed."""

    text: Text
    actions: chex.Array  # [L, A]
    index: chex.Array  # [] next one


@dataclasses.dataclass(frozen=True)
class PlannedActionPolicy(LanguagePolicy):
    """A plan of actions every `period` steps, executed open-loop in between."""

    def init(self, params: Params, task: Pytree, key: Key) -> ActionCarry:
        """An empty plan."""
        del key
        self.check(params, task)
        planner, box = params.configs["planner"], self._box(params)
        steps = planner.stride * (params.configs["sampling"].rows or planner.horizon)
        if self.period > steps:
            raise UserError(
                f"replan is {self.period}, but a plan holds {steps} actions: choose "
                f"1 … {steps}, or a longer plan."
            )
        actions = jnp.zeros((steps, box.low.shape[-1]))
        return ActionCarry(_text(task), actions, jnp.int32(0))

    def _box(self, params: Params) -> Any:
        return params.states[self.encoder_stage].action_box

    def plan(
        self, params: Params, carry: ActionCarry, observation: chex.Array, key: Key
    ) -> ActionCarry:
        """New actions from the present observation."""
        latent = self.latent(params, observation)
        rows = self.rows(params, latent, carry.text, key)
        moves = rows[:, : rows.shape[-1] - latent.shape[-1]]
        actions = moves.reshape(carry.actions.shape) + self._box(params).shift
        return ActionCarry(carry.text, actions, jnp.int32(0))

    def propose(
        self,
        params: Params,
        carry: ActionCarry,
        observation: chex.Array,
        reward: chex.Array,
        key: Key,
    ) -> tuple[Distribution, ActionCarry]:
        """The plan's next action, a point."""
        del observation, reward, key
        box = self._box(params)
        distribution = point(carry.actions[carry.index], box.shift, box.scale)
        return distribution, carry._replace(index=carry.index + 1)
