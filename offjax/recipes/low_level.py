"""Policies learnt from play: `gcbc`, `mcil` and `hulc`, by instruction or subgoal.

Language Control Diffusion (https://arxiv.org/abs/2210.15629) plans for such a policy;
HULC, MCIL and goal-conditioned cloning are what it is compared with. Preset `paper` has
the published widths, with a state's encoder in place of the cameras'; `small` is for
two cores, three seeds in about ten minutes.

A policy's task is an instruction, {"sentence": [E], ...}, or for `gcbc_goal` states
{"goals": [L, O]} one step apart, of which it pursues the one `lookahead` steps on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from offjax.algorithms import gcbc as cloning
from offjax.algorithms import hulc as latent_plans
from offjax.algorithms import mcil as gaussian_plans
from offjax.datasets import language
from offjax.datasets.dataset import Dataset
from offjax.datasets.texts import embed
from offjax.distributions import Distribution
from offjax.envs import scene
from offjax.recipes.common import pick
from offjax.types import EnvSpec, Key, Params, Policy, Pytree, Recipe, Stage

LOOKAHEAD = 16
"""Steps by which a given subgoal lies ahead."""
FOR_PLANNERS = {"goals": "states", "goal_noise": 0.1, "reconstruction": 1.0}
"""Settings of `gcbc` under a planner: its latents then hold what the planner must know.
Without them a cube's place is lost (docs/results/lcd.md)."""
ORDERED = "hash_order"
"""Text encoder where sentences name several things, so that their order matters."""
CONTRASTED = 8
"""Windows that begin at one of this many last places of their span are contrasted."""


def prepare_play(
    dataset: Dataset, config: Any, context: Mapping[str, Pytree]
) -> language.Play:
    """The recording, with its sentences embedded, [S, E].

    Raises:
      UserError: no annotations, or a text encoder that cannot be had.
    """
    del context
    sentences = language.require(dataset).sentences
    return language.from_dataset(dataset, embed(sentences, config).sentence)


def sample_chunks(
    data: language.Play, key: Key, config: cloning.Config
) -> cloning.Batch:
    """Chunks of play with a later state, and chunks of spans with their sentence."""
    play_key, offset_key, language_key = jax.random.split(key, 3)
    states = described = None
    if config.goals != "language":
        length = max(config.chunk, config.goal_offset + 1)
        play = language.play_windows(data, play_key, config.batch_size, length)
        offset = jax.random.randint(
            offset_key, (config.batch_size,), 1, config.goal_offset + 1
        )
        goals = jnp.take_along_axis(play.rows, offset[:, None], axis=1)[:, 0]
        states = _chunks(data, play, config, data.observations[goals])
    if config.goals != "states":
        spans = language.annotated_windows(
            data, language_key, config.batch_size, config.chunk
        )
        sentences = data.encoding[data.texts[spans.annotations]]
        described = _chunks(data, spans, config, sentences)
    return cloning.Batch(states, described)


def _chunks(
    data: language.Play,
    windows: language.Windows,
    config: cloning.Config,
    goals: chex.Array,
) -> cloning.Examples:
    rows, mask = windows.rows[:, : config.chunk], windows.mask[:, : config.chunk]
    return cloning.Examples(
        data.observations[rows[:, 0]],
        data.actions[rows],
        mask.astype(jnp.float32),
        goals,
    )


def sample_windows(
    data: language.Play, key: Key, config: latent_plans.Config
) -> latent_plans.Batch:
    """Windows of play and of annotated spans, of random length.

    A window of a span begins at any place that leaves it `min_window` steps, all such
    places of all spans being equally likely; a shorter span gives one window, itself.
    """
    keys = jax.random.split(key, 4)
    size, shortest = config.batch_size, config.min_window
    play = language.play_windows(data, keys[0], size, config.window)
    places = jnp.maximum(data.ends - data.starts - shortest, 0) + 1
    bounds = jnp.cumsum(places)
    place = jax.random.randint(keys[1], (size,), 0, bounds[-1])
    span = jnp.searchsorted(bounds, place, side="right")
    left = bounds[span] - place  # places from this one to the last, both counted
    first = data.starts[span] + places[span] - left
    rows = first[:, None] + jnp.arange(config.window)
    return latent_plans.Batch(
        _windows(data, play.rows, play.mask, keys[2], config),
        _windows(data, rows, rows < data.ends[span][:, None], keys[3], config),
        data.encoding[data.texts[span]],
        left <= CONTRASTED,
    )


def _windows(
    data: language.Play,
    rows: chex.Array,
    mask: chex.Array,
    key: Key,
    config: latent_plans.Config,
) -> latent_plans.Windows:
    """Windows of `min_window` to T of the rows [B, T], the last one repeated."""
    lengths = jax.random.randint(
        key, (len(rows), 1), config.min_window, config.window + 1
    )
    mask = mask & (jnp.arange(config.window) < lengths)
    last = rows[:, :1] + mask.sum(axis=1, keepdims=True) - 1
    rows = jnp.minimum(rows, last)
    return latent_plans.Windows(
        data.observations[rows], data.actions[rows], mask.astype(jnp.float32)
    )


class Carry(NamedTuple):
    """Goal of an episode, and what its algorithm carries."""

    latent: chex.Array  # [Z]
    inner: Pytree
    goals: chex.Array | None = None  # [L, O] states to follow
    time: chex.Array | None = None  # [] steps since the first of `goals`


@dataclasses.dataclass(frozen=True)
class InstructedPolicy(Policy):
    """Follows one instruction; every `period` steps begins anew towards it.

    Attributes:
      period: steps between latent plans, or chunks.
      stage: of the algorithm's state.
      algorithm: module with `encode_text`, `empty`, `begin`, `distribution_for_goal`.
      config: its settings; read for what fixes shapes.
    """

    period: int = 1
    stage: str = ""
    algorithm: Any = None
    config: Any = None

    def init(self, params: Params, task: Pytree, key: Key) -> Carry:
        """The instruction's latent; `task["sentence"]` is its embedding [E]."""
        del key
        state, settings = params.states[self.stage], params.configs[self.stage]
        latent = self.algorithm.encode_text(state, task["sentence"], settings)
        return Carry(latent, self.algorithm.empty(state, self.config))

    def plan(
        self, params: Params, carry: Carry, observation: chex.Array, key: Key
    ) -> Carry:
        """A new latent plan, or the end of the present chunk."""
        state, settings = params.states[self.stage], params.configs[self.stage]
        inner = self.algorithm.begin(state, observation, carry.latent, key, settings)
        return carry._replace(inner=inner)

    def propose(
        self,
        params: Params,
        carry: Carry,
        observation: chex.Array,
        reward: chex.Array,
        key: Key,
    ) -> tuple[Distribution, Carry]:
        """The algorithm's next action towards the latent."""
        del reward
        state, settings = params.states[self.stage], params.configs[self.stage]
        distribution, inner = self.algorithm.distribution_for_goal(
            state, carry.inner, observation, carry.latent, key, settings
        )
        return distribution, carry._replace(inner=inner)


@dataclasses.dataclass(frozen=True)
class SubgoalPolicy(InstructedPolicy):
    """Pursues given states: every `period` steps the one `lookahead` steps ahead.

    What a planner of subgoals would reach if its subgoals were true. One state, or the
    last of several, is a goal to stay with.
    """

    lookahead: int = LOOKAHEAD
    given_goals: bool = True

    def init(self, params: Params, task: Pytree, key: Key) -> Carry:
        """`task["goals"]` are raw states [L, O], one step apart, from the present on.

        The policy begins at the first of them.
        """
        del key
        state = params.states[self.stage]
        latent = jnp.zeros(self.config.latent_dim)
        inner = self.algorithm.empty(state, self.config)
        goals = jnp.asarray(task["goals"], jnp.float32)
        return Carry(latent, inner, goals, jnp.int32(0))

    def plan(
        self, params: Params, carry: Carry, observation: chex.Array, key: Key
    ) -> Carry:
        """Sets the next subgoal."""
        assert carry.goals is not None and carry.time is not None
        state, settings = params.states[self.stage], params.configs[self.stage]
        place = jnp.minimum(carry.time + self.lookahead, carry.goals.shape[0] - 1)
        latent = self.algorithm.encode_goal(state, carry.goals[place], settings)
        inner = self.algorithm.begin(state, observation, latent, key, settings)
        return carry._replace(latent=latent, inner=inner)

    def record(self, carry: Carry, action: chex.Array) -> Carry:
        """Counts the step."""
        del action
        assert carry.time is not None
        return carry._replace(time=carry.time + 1)


def objects(spec: EnvSpec | None) -> tuple[int, ...]:
    """Where an environment's observations hold things that are alike, or ()."""
    known = scene.SCENES.get(dict(spec.kwargs).get("scene", "")) if spec else None
    return known.objects if known else ()


def text(spec: EnvSpec | None) -> dict[str, Any]:
    """The text encoder of what reads sentences about an environment."""
    return {"text_encoder": ORDERED} if objects(spec) else {}


def gcbc_stage(spec: EnvSpec | None, preset: str, **settings: Any) -> Stage:
    """Stage `gcbc`: chunks of actions by instruction, states, or both."""
    sizes = pick(
        preset,
        paper={"hidden_dims": (1024,) * 3, "encoder_dims": (512, 512)},
        small={"lr": 1e-3},
        demo={"hidden_dims": (128, 128), "encoder_dims": (64,), "lr": 1e-3},
    )
    return Stage(
        "gcbc",
        cloning,
        cloning.Config(objects=objects(spec), **(sizes | text(spec) | settings)),
        num_steps=pick(preset, paper=200_000, small=30_000, demo=8_000),
        prepare=prepare_play,
        sampler=sample_chunks,
    )


def gcbc(spec: EnvSpec | None, preset: str) -> Recipe:
    """A flat policy that is told the instruction, in chunks of actions."""
    stage = gcbc_stage(spec, preset, goals="language")
    return Recipe("gcbc", (stage,), _instructed(cloning))


def gcbc_goal(spec: EnvSpec | None, preset: str) -> Recipe:
    """The policy under a planner, given true subgoals."""

    def policy(configs: Mapping[str, Any]) -> Policy:
        config = configs["gcbc"]
        return SubgoalPolicy(LOOKAHEAD // 2, "gcbc", cloning, config)

    return Recipe("gcbc_goal", (gcbc_stage(spec, preset, **FOR_PLANNERS),), policy)


def _instructed(algorithm: ModuleType) -> Callable[[Mapping[str, Any]], Policy]:
    def policy(configs: Mapping[str, Any]) -> Policy:
        ((stage, config),) = configs.items()
        period = config.execute if algorithm is cloning else config.replan
        return InstructedPolicy(period, stage, algorithm, config)

    return policy


def _play_stage(
    name: str, algorithm: Any, preset: str, settings: Mapping[str, Any]
) -> Stage:
    """A stage of HULC or MCIL on states."""
    states: dict[str, Any] = {
        "encoder": "state",
        "decoder_sees": "all",
        "binary_gripper": False,
        "num_classes": 256,
        "augment": False,
    }
    small: dict[str, Any] = {
        "lr": 1e-3,
        "ema_decay": 0.999,
        "acting": "mode",
        "features": 64,
        "goal_dims": (256, 256),
        "prior_dims": (256, 256),
        "recognition_dim": 128,
        "recognition_layers": 1,
        "recognition_features": 256,
        "dropout": 0.0,
        "decoder_dim": 128,
        "num_components": 5,
        "window": 20,
        "min_window": 10,
        "replan": 20,
    }
    demo: dict[str, Any] = {
        "encoder_dims": (64,),
        "goal_dims": (64,),
        "prior_dims": (64,),
        "recognition_dim": 64,
        "decoder_dim": 64,
        "window": 16,
        "min_window": 8,
        "replan": 16,
    }
    paper = {"batch_size": 256, "encoder_dims": (512,)}
    sizes = pick(preset, paper=paper, small=small, demo=small | demo)
    return Stage(
        name,
        algorithm,
        algorithm.Config(**(states | sizes | settings)),
        num_steps=pick(preset, paper=60_000, small=10_000, demo=1_000),
        prepare=prepare_play,
        sampler=sample_windows,
    )


def hulc_stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `hulc`, on states."""
    plan = {"plan_variables": 16, "plan_classes": 16}
    by_preset: dict[str, Any] = pick(preset, paper={}, small=plan, demo=plan)
    return _play_stage("hulc", latent_plans, preset, by_preset | text(spec))


def mcil_stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `mcil`, on states."""
    plan = {"plan_variables": 64}
    by_preset: dict[str, Any] = pick(preset, paper={}, small=plan, demo=plan)
    return _play_stage("mcil", gaussian_plans, preset, by_preset | text(spec))


def hulc(spec: EnvSpec | None, preset: str) -> Recipe:
    """HULC, told the instruction."""
    return Recipe("hulc", (hulc_stage(spec, preset),), _instructed(latent_plans))


def mcil(spec: EnvSpec | None, preset: str) -> Recipe:
    """MCIL, told the instruction."""
    return Recipe("mcil", (mcil_stage(spec, preset),), _instructed(gaussian_plans))


RECIPES = {"gcbc": gcbc, "gcbc_goal": gcbc_goal, "mcil": mcil, "hulc": hulc}
"""Method name → `(spec, preset) → Recipe`."""
