"""Goal-conditioned behavior cloning in action chunks, by states or instructions.

A goal, which is a later state g of the same trajectory or the embedding l of an
instruction, becomes a latent vector, and one network reads state and latent:

    z = LN(f(g))  or  z = LN(h(l)),    û_{t..t+K-1} = π(s_t, z)
    minimize  E ‖u_{t..t+K-1} − û‖²  over the recorded steps,

u being the actions mapped to [-1, 1]. Both kinds of goals share π, and their losses are
averaged. The scheme is that of the flat baseline of CALVIN and HULC (Mees et al., 2022,
arXiv:2204.06252), as a plain network that predicts chunks of actions (Zhao et al.,
2023, arXiv:2304.13705): recorded controllers keep time and state that observations
lack. Acting reads an exponential moving average of the parameters.

For a planner in the space of z two terms may be added, neither of them published. Its
subgoals are never exact: noise on the latents of states (`goal_noise`) makes π read
from s_t what it can. And it knows the present by its latent alone, in which
`reconstruction` · E ‖g − r(z)‖² keeps all of the state.

Where observations are pixels, a small convolutional encoder reads states and goals,
which training moves by a few pixels; r paints the frame that the encoder saw.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offjax.datasets.play import ChunkBatch, Chunks, ChunkView, Play
from offjax.distributions import Distribution, point
from offjax.errors import UserError, require_least, require_option
from offjax.methods.common import TextConfig, pick, start, zeros
from offjax.methods.goals import (
    GoalMethod,
    State,
    SubgoalActor,
    instructed,
    learn,
    objects,
    text_encoder,
)
from offjax.methods.pixels import PixelConfig, encoder_sizes, see, shifted_rows
from offjax.networks.gcbc import GoalPolicy
from offjax.networks.objects import check_objects
from offjax.networks.trained import trained
from offjax.types import (
    Actor,
    Array,
    EnvSpec,
    Key,
    Model,
    Pytree,
    Recipe,
    Stage,
    Upstream,
    config,
    static,
)

GOALS = ("states", "language", "both")
LOOKAHEAD = 16
"""Steps by which a given subgoal lies ahead."""
FOR_PLANNERS = {"goals": "states", "goal_noise": 0.1, "reconstruction": 1.0}
"""Settings under a planner: latents then hold what the planner must know. Without them
a cube's place is lost (docs/results/lcd.md)."""


@config
class Config(PixelConfig, TextConfig):
    """Hyperparameters.

    Attributes:
      ema_decay: of the averaged parameters, once there are enough updates.
      goals: what conditions training, "states", "language" or "both".
      encoder_dims: widths of the goal encoders' hidden layers.
      latent_dim: length of z.
      objects: first column, number and width of objects of one kind, which are read
        with the same weights, see `offjax.networks.objects`; () for none.
      chunk: K, actions predicted at once.
      execute: how many of them are executed before the next chunk.
      goal_offset: goal states lie 1 … this many steps ahead, uniformly.
      goal_noise: deviation of normal noise on their latents in training; the entries
        of a latent begin with a mean square of 1.
      reconstruction: weight of the states' reconstruction from their latents.
      batch_size: examples of each kind of goal.
    """

    lr: float = 3e-4
    ema_decay: float = 0.999
    goals: str = "both"
    hidden_dims: tuple[int, ...] = (256, 256, 256)
    encoder_dims: tuple[int, ...] = (256, 256)
    latent_dim: int = 32
    objects: tuple[int, ...] = ()
    chunk: int = 8
    execute: int = 4
    goal_offset: int = 24
    goal_noise: float = 0.0
    reconstruction: float = static(default=0.0)
    batch_size: int = 256

    def validate(self) -> None:
        """Refuses unknown goals, or none ahead, and more than a chunk's actions."""
        PixelConfig.validate(self)
        require_option("goals", self.goals, GOALS)
        require_least(1, goal_offset=self.goal_offset)
        if not 1 <= self.execute <= self.chunk:
            raise UserError(
                f"gcbc: execute={self.execute} actions of each chunk of "
                f"{self.chunk} cannot be executed: choose 1 … {self.chunk}, or a "
                "larger chunk."
            )
        if self.cameras and self.objects:
            raise UserError(
                f"objects={self.objects} are columns of a state vector, but the "
                "observations are pixels: set objects to ()."
            )


class Carry(NamedTuple):
    """The chunk that is being executed."""

    actions: Array  # [K, A] the environment's
    index: Array  # [] steps since the chunk was asked for


def init(key: Key, data: Play, config: Config, upstream: Upstream) -> State:
    """Fresh state; `UserError` for objects that the observations do not hold."""
    observation, action = zeros(data)
    check_objects(config.objects, observation.shape[-1])
    network: Any = GoalPolicy(config, action.shape[-1], observation.shape[-1])
    sentence = None
    if config.goals != "states":
        sentence = jnp.zeros(data.sentences.shape[-1])
    params = network.init(key, observation, sentence)
    actor = trained(params, optax.adam(config.lr))
    return State(**start(key, data), actor=actor, ema=params)


def _network(state: State, config: Config) -> Any:
    sizes = state.action_box.low.shape[-1], state.normalizer.mean.shape[-1]
    return GoalPolicy(config, *sizes)


def actor_loss(
    params: Pytree, state: State, batch: ChunkBatch, key: Key, config: Config
) -> tuple[Array, dict[str, Array]]:
    """Mean over the kinds of goals of the squared error per action entry.

    Plus the error of reconstructed goals. `key` draws noise on the latents of states,
    and how images move.
    """
    network, losses, extra = _network(state, config), {}, {}
    if config.cameras:
        batch = _shifted(batch, jax.random.fold_in(key, 1), config)
    if batch.states is not None:
        goals = see(state, batch.states.goals, config)
        latents = network.apply(params, goals, method="encode_state")
        if config.reconstruction:
            error = network.apply(params, latents, method="decode") - goals
            extra["gcbc/reconstruction"] = config.reconstruction * jnp.mean(error**2)
        latents += config.goal_noise * jax.random.normal(key, latents.shape)
        losses["gcbc/states"] = _error(params, state, batch.states, latents, config)
    if batch.language is not None:
        goals = batch.language.goals
        latents = network.apply(params, goals, method="encode_text")
        losses["gcbc/language"] = _error(params, state, batch.language, latents, config)
    loss = sum(losses.values()) / len(losses) + sum(extra.values())
    return loss, losses | extra | {"gcbc/loss": loss}


def _shifted(batch: ChunkBatch, key: Key, config: Config) -> ChunkBatch:
    """The batch with every image moved on its own."""
    first, second, third = jax.random.split(key, 3)
    states, language = batch
    if states is not None:
        states = states._replace(
            observations=shifted_rows(states.observations, first, config),
            goals=shifted_rows(states.goals, second, config),
        )
    if language is not None:
        seen = shifted_rows(language.observations, third, config)
        language = language._replace(observations=seen)
    return ChunkBatch(states, language)


def _error(
    params: Pytree, state: State, chunks: Chunks, latents: Array, config: Config
) -> Array:
    """Mean squared error of the chunks per action entry, over the steps that count."""
    observations = see(state, chunks.observations, config)
    predicted = _network(state, config).apply(
        params, observations, latents, method="act"
    )
    actions = state.action_box.to_unit(chunks.actions)
    errors = jnp.mean((actions - predicted) ** 2, axis=-1) * chunks.mask
    return jnp.sum(errors) / jnp.maximum(jnp.sum(chunks.mask), 1.0)


def update(
    state: State, batch: ChunkBatch, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One Adam step on a batch of chunks, and one of the averaged parameters."""
    return learn(actor_loss, state, batch, config)


# -- acting -------------------------------------------------------------------


def encode_goal(model: Model, observations: Array) -> Array:
    """Latents [..., Z] of raw goal states [..., O]."""
    goals = see(model.state, observations, model.config)
    network = _network(model.state, model.config)
    return network.apply(model.state.ema, goals, method="encode_state")


def encode_text(model: Model, sentences: Array) -> Array:
    """Latents [..., Z] of embedded instructions [..., E]."""
    network = _network(model.state, model.config)
    return network.apply(model.state.ema, sentences, method="encode_text")


def chunk(model: Model, observations: Array, latents: Array) -> Array:
    """The environment's next K actions [..., K, A] at raw observations [..., O]."""
    normalized = see(model.state, observations, model.config)
    network = _network(model.state, model.config)
    actions = network.apply(model.state.ema, normalized, latents, method="act")
    return model.state.action_box.from_unit(actions)


def empty(model: Model) -> Carry:
    """The carry of an agent that has no goal yet."""
    shape = (model.config.chunk, model.state.action_box.low.shape[-1])
    return Carry(jnp.zeros(shape), jnp.int32(0))


def begin(model: Model, observation: Array, latent: Array, key: Key) -> Carry:
    """Carry at the moment a goal is set: the next action begins a new chunk."""
    return empty(model)


def act_towards(
    model: Model, carry: Carry, observation: Array, latent: Array, key: Key
) -> tuple[Distribution, Carry]:
    """The next action, a point, towards the goal's latent [Z]; the carry after it."""
    place = carry.index % model.config.execute
    fresh = chunk(model, observation, latent)
    actions = jnp.where(place == 0, fresh, carry.actions)
    box = model.state.action_box
    distribution = point(actions[place], box.shift, box.scale)
    return distribution, Carry(actions, carry.index + 1)


METHOD = GoalMethod(
    "gcbc",
    1,
    init,
    update,
    encode_goal=encode_goal,
    encode_text=encode_text,
    empty=empty,
    begin=begin,
    act_towards=act_towards,
    cameras=True,
)


def stage(spec: EnvSpec | None, preset: str, **settings: Any) -> Stage:
    """Stage `gcbc`: chunks of actions by instruction, states, or both."""
    widths = pick(
        preset,
        paper={"hidden_dims": (1024,) * 3, "encoder_dims": (512, 512)},
        small={"lr": 1e-3},
        demo={"hidden_dims": (128, 128), "encoder_dims": (64,), "lr": 1e-3},
    )
    seen = encoder_sizes(spec, preset)
    if seen and preset != "paper":  # an update is nearly all convolutions
        widths |= {"batch_size": 64}
    widths |= seen | text_encoder(spec)
    config = Config(objects=objects(spec), **(widths | settings))
    steps = pick(preset, paper=200_000, small=30_000, demo=8_000)
    return Stage("gcbc", METHOD, config, ChunkView(), steps)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """A flat policy that follows the instruction, in chunks of actions."""
    actor = instructed("gcbc", lambda config: config.execute)
    return Recipe("gcbc", (stage(spec, preset, goals="language"),), actor)


def goal_recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """The policy under a planner, given true subgoals."""

    def actor(recipe: Recipe) -> Actor:
        text = recipe.config("gcbc").text
        return SubgoalActor("gcbc", text, LOOKAHEAD // 2, LOOKAHEAD)

    return Recipe("gcbc_goal", (stage(spec, preset, **FOR_PLANNERS),), actor)
