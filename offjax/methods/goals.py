"""How methods act that pursue a goal: an instruction, or a state to reach.

An actor's task is an instruction, {"sentence": [E], ...}, or states {"goals": [L, O]}
one step apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offjax.datasets.text import Text, TextEncoder
from offjax.distributions import Distribution
from offjax.envs import scene
from offjax.methods.common import TrainState, average
from offjax.methods.plans import Encoder
from offjax.networks.trained import Trained, descend
from offjax.types import Actor, Array, EnvSpec, Key, Model, Params, Pytree, Recipe

ORDERED = "hash_order"
"""Text encoder where sentences name several objects, so that their order matters."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoalMethod(Encoder):
    """A method that acts towards latents [Z] of states or instructions.

    Attributes:
      encode_text: `(model, sentences) → latents`, embedded [..., E] to [..., Z].
      empty: `(model) → carry` of an agent that has no goal yet.
      begin: `(model, observation, latent, key) → carry` at the moment a goal is set.
      act_towards: `(model, carry, observation, latent, key) → (Distribution, carry)`.
    """

    encode_text: Callable[..., Array]
    empty: Callable[..., Pytree]
    begin: Callable[..., Pytree]
    act_towards: Callable[..., tuple[Distribution, Pytree]]


class State(TrainState):
    """Encoders, policy and decoders, and their averaged parameters, which act."""

    actor: Trained
    ema: Pytree


def learn(
    loss: Callable[..., tuple[Array, dict[str, Array]]],
    state: State,
    batch: Pytree,
    config: Any,
) -> tuple[State, dict[str, Array]]:
    """One Adam step on `loss(params, state, batch, key, config)`, one of the average.

    The metrics are the loss's info.
    """
    key = jax.random.fold_in(state.key, state.step)
    adam = optax.adam(config.lr)
    actor, _, metrics = descend(loss, state.actor, adam, state, batch, key, config)
    ema = average(actor.params, state.ema, config.ema_decay, state.step)
    return state.replace(actor=actor, ema=ema, step=state.step + 1), metrics


def goal_method(model: Model) -> GoalMethod:
    """The functions of a model that acts towards goals."""
    assert isinstance(model.method, GoalMethod)
    return model.method


class Carry(NamedTuple):
    """Goal of an episode, and what its method carries."""

    latent: Array  # [Z]
    inner: Pytree
    goals: Array | None = None  # [L, O] states to follow
    time: Array | None = None  # [] steps since the first of `goals`
    text: Text | None = None  # instruction that a planner reads


@dataclasses.dataclass(frozen=True)
class LanguageActor(Actor):
    """An actor whose tasks are instructions, embedded with `text`.

    `stage` is that of the model that acts, or in whose latents plans are made.
    """

    stage: str
    text: TextEncoder
    period: int = 1

    def embed(self, sentences: Sequence[str]) -> Pytree:
        """Tasks of N instructions, leaves [N, ...]."""
        return self.text.embed(sentences)._asdict()

    def model(self, params: Params) -> Model:
        """The model of `stage`."""
        return params.models[self.stage]


@dataclasses.dataclass(frozen=True)
class InstructedActor(LanguageActor):
    """Follows one instruction; every `period` steps begins anew towards it."""

    def begin(self, params: Params, task: Pytree, key: Key) -> Carry:
        """The instruction's latent; `task["sentence"]` is its embedding [E]."""
        model = self.model(params)
        method = goal_method(model)
        latent = method.encode_text(model, task["sentence"])
        return Carry(latent, method.empty(model))

    def plan(self, params: Params, carry: Carry, observation: Array, key: Key) -> Carry:
        """A new latent plan, or the end of the present chunk."""
        return self.pursue(params, carry, observation, carry.latent, key)

    def pursue(
        self, params: Params, carry: Carry, observation: Array, latent: Array, key: Key
    ) -> Carry:
        """The carry with a goal [Z], towards which the method begins anew."""
        model = self.model(params)
        inner = goal_method(model).begin(model, observation, latent, key)
        return carry._replace(latent=latent, inner=inner)

    def act(
        self, params: Params, carry: Carry, observation: Array, reward: Array, key: Key
    ) -> tuple[Distribution, Carry]:
        """The method's next action towards the latent."""
        model = self.model(params)
        distribution, inner = goal_method(model).act_towards(
            model, carry.inner, observation, carry.latent, key
        )
        return distribution, carry._replace(inner=inner)


@dataclasses.dataclass(frozen=True)
class SubgoalActor(InstructedActor):
    """Pursues given states: every `period` steps the one `lookahead` steps ahead.

    It shows what a planner would reach if its subgoals were true. The last state, or
    the only one, is a goal to stay with.
    """

    lookahead: int = 16
    given_goals: bool = True

    def begin(self, params: Params, task: Pytree, key: Key) -> Carry:
        """`task["goals"]` are raw states [L, O] from the present on, one step apart."""
        model = self.model(params)
        goals = jnp.asarray(task["goals"])
        latent = jnp.zeros(model.config.latent_dim)
        return Carry(latent, goal_method(model).empty(model), goals, jnp.int32(0))

    def plan(self, params: Params, carry: Carry, observation: Array, key: Key) -> Carry:
        """Sets the next subgoal."""
        assert carry.goals is not None and carry.time is not None
        model = self.model(params)
        place = jnp.minimum(carry.time + self.lookahead, carry.goals.shape[0] - 1)
        latent = goal_method(model).encode_goal(model, carry.goals[place])
        return self.pursue(params, carry, observation, latent, key)

    def record(self, carry: Carry, action: Array) -> Carry:
        """Counts the step."""
        assert carry.time is not None
        return carry._replace(time=carry.time + 1)


def instructed(stage: str, period: Callable[[Any], int]) -> Callable[[Recipe], Actor]:
    """`Recipe.actor` of a stage that follows instructions.

    `period(config)` is the number of steps between its plans.
    """

    def actor(recipe: Recipe) -> Actor:
        config = recipe.config(stage)
        return InstructedActor(stage, config.text, period(config))

    return actor


def objects(spec: EnvSpec | None) -> tuple[int, ...]:
    """First column, number and width of like objects in the observations, or ().

    Pixels have no columns.
    """
    return () if spec is not None and spec.cameras else _objects(spec)


def _objects(spec: EnvSpec | None) -> tuple[int, ...]:
    known = scene.SCENES.get(dict(spec.kwargs).get("scene", "")) if spec else None
    return known.objects if known else ()


def text_encoder(spec: EnvSpec | None) -> dict[str, Any]:
    """The text encoder of what reads sentences about an environment."""
    return {"text_encoder": ORDERED} if _objects(spec) else {}
