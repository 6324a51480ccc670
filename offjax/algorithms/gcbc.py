"""Goal-conditioned behaviour cloning in action chunks, by states or instructions.

A goal, which is a later state g of the same trajectory or the embedding l of an
instruction, becomes a latent vector, and one network reads state and latent:

    z = LN(f(g))  or  z = LN(h(l)),    û_{t..t+K-1} = π(s_t, z)
    minimise  E ‖u_{t..t+K-1} − û‖²  over the recorded steps,

u being the actions mapped to [-1, 1]. Both kinds of goals share π, and their losses are
averaged. The scheme is that of the flat baseline of CALVIN and HULC (Mees et al., 2022,
https://arxiv.org/abs/2204.06252), as a plain network that predicts chunks of actions
(Zhao et al., 2023, https://arxiv.org/abs/2304.13705): K are predicted and the first few
of them executed, for recorded controllers keep time and state that observations lack.

For a planner in the space of z two things may be added, neither of them published. Its
subgoals are never exact: noise on the latents of states (`goal_noise`) makes π read
from s_t what it can. And it knows the present by its latent alone, which need not hold
what actions towards it do not depend on: `reconstruction` · E ‖g − r(z)‖² keeps it all.

Where observations hold things that are alike, such as cubes of several colours, π may
read them with the same weights and attend to those that matter (`objects`, see
`offjax.networks.objects`).

Acting reads an exponential moving average of the parameters. What plans subgoals
(`offjax.algorithms.diffusion_planner`) works in the space of z.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.distributions import Distribution, point
from offjax.errors import UserError
from offjax.networks.mlp import MLP
from offjax.networks.objects import ObjectMLP, check_objects
from offjax.types import Context, Key, Pytree, config, static

GOALS = ("states", "language", "both")
CLIP = 5.0
"""Standardised observations are clipped to ± this: a joint that hardly moves in the
data must not drown the others where it does."""


@config
class Config:
    """Hyperparameters.

    Attributes:
      lr: Adam's step size.
      ema_decay: of the averaged parameters, once there are enough updates.
      goals: what conditions training, "states", "language" or "both".
      hidden_dims: widths of the policy's hidden layers.
      encoder_dims: widths of the goal encoders' hidden layers.
      latent_dim: length of z.
      objects: first column, number and width of things that are alike; () for none.
      chunk: K, actions predicted at once.
      execute: how many of them are executed before the next chunk.
      goal_offset: goal states lie 1 … this many steps ahead, uniformly.
      goal_noise: deviation of normal noise on their latents in training; the entries
        of a latent begin with a mean square of 1.
      reconstruction: weight of the states' reconstruction from their latents; with 0
        there is none.
      batch_size: examples of each kind of goal.
      text_encoder: see `offjax.networks.language`.
      text_weights: folder of a pretrained text encoder.
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
    text_encoder: str = "hash"
    text_weights: str = ""


class Examples(NamedTuple):
    """Recorded chunks with the goal that they served; raw values."""

    observations: chex.Array  # [B, O]
    actions: chex.Array  # [B, K, A]
    mask: chex.Array  # [B, K] 1 on steps that count
    goals: chex.Array  # [B, O] states, or [B, E] embedded instructions


class Batch(NamedTuple):
    """Examples of either kind; None where `Config.goals` has none of it."""

    states: Examples | None
    language: Examples | None


class State(flax.struct.PyTreeNode):
    """All that changes, and what acting with it needs: transforms and settings.

    `config` is for stages that read this state without knowing its settings.
    """

    params: Pytree
    ema: Pytree
    opt_state: optax.OptState
    normalizer: Normalizer
    action_box: ActionBox
    config: Config
    key: Key
    step: chex.Array


class Carry(NamedTuple):
    """The chunk that is being executed."""

    actions: chex.Array  # [K, A] the environment's
    index: chex.Array  # [] steps since the chunk was asked for


class Network(nn.Module):
    """Both goal encoders, the policy, and what gives states back."""

    config: Config
    action_dim: int
    observation_dim: int

    def setup(self) -> None:
        """The submodules; those that are never called get no parameters."""
        c = self.config
        self.state_goal = MLP(c.encoder_dims, c.latent_dim, nn.gelu, layer_norm=True)
        self.state_norm = nn.LayerNorm()
        self.text_goal = MLP(c.encoder_dims, c.latent_dim, nn.gelu, layer_norm=True)
        self.text_norm = nn.LayerNorm()
        width = c.chunk * self.action_dim
        policy: Any = MLP(c.hidden_dims, width, nn.gelu, layer_norm=True)
        if c.objects:
            policy = ObjectMLP(c.objects, c.hidden_dims, width)
        self.policy = policy
        dims, out = c.encoder_dims[::-1], self.observation_dim
        self.decoder = MLP(dims, out, nn.gelu, layer_norm=True)

    def encode_state(self, goals: chex.Array) -> chex.Array:
        """Normalised states [..., O] → latents [..., Z]."""
        return self.state_norm(self.state_goal(goals))

    def encode_text(self, sentences: chex.Array) -> chex.Array:
        """Embedded instructions [..., E] → latents [..., Z]."""
        return self.text_norm(self.text_goal(sentences))

    def decode(self, latents: chex.Array) -> chex.Array:
        """Latents of states [..., Z] → normalised states [..., O]."""
        return self.decoder(latents)

    def act(self, observations: chex.Array, latents: chex.Array) -> chex.Array:
        """Normalised [..., O] and [..., Z] → actions in the unit box [..., K, A]."""
        inputs: tuple[chex.Array, ...] = (observations, latents)
        if not self.config.objects:
            inputs = (jnp.concatenate(inputs, axis=-1),)
        out = self.policy(*inputs)
        return out.reshape(*out.shape[:-1], self.config.chunk, self.action_dim)

    def touch(
        self, observation: chex.Array, sentence: chex.Array | None
    ) -> chex.Array | None:
        """Calls what `Config.goals` needs, so that `init` makes its parameters."""
        actions = None
        if self.config.goals != "language":
            latent = self.encode_state(observation)
            actions = self.act(observation, latent)
            if self.config.reconstruction:
                self.decode(latent)
        if self.config.goals != "states":
            actions = self.act(observation, self.encode_text(sentence))
        return actions


def validate(config: Config) -> None:
    """Refuses settings that make no sense.

    Raises:
      UserError: unknown goals, a chunk without steps or shorter than what is executed
        of it, or goals that lie nowhere ahead.
    """
    if config.goals not in GOALS:
        raise UserError(
            f"gcbc: goals is {config.goals!r}; choose one of {', '.join(GOALS)}."
        )
    if not 1 <= config.execute <= config.chunk:
        raise UserError(
            f"gcbc: execute={config.execute} actions of each chunk of "
            f"{config.chunk} cannot be executed: choose 1 … {config.chunk}, or a "
            "larger chunk."
        )
    if config.goal_offset < 1:
        raise UserError(
            f"gcbc: goal_offset is {config.goal_offset}, but goal states lie at least "
            "1 step ahead."
        )


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for shapes and statistics.

    It is a `Play` whose `encoding` are the embedded sentences [S, E].

    Raises:
      UserError: as `validate`, or things that the observations do not hold.
    """
    del context
    validate(config)
    statistics = example.statistics
    check_objects(config.objects, statistics.observation_mean.shape[-1])
    box = ActionBox(statistics.action_low, statistics.action_high)
    network: Any = Network(
        config, box.low.shape[-1], statistics.observation_mean.shape[-1]
    )
    observation = jnp.zeros_like(statistics.observation_mean)
    sentence = None
    if config.goals != "states":
        sentence = jnp.zeros(example.encoding.shape[-1])
    params = network.init(key, observation, sentence, method="touch")
    return State(
        params,
        params,
        optax.adam(config.lr).init(params),
        Normalizer.from_statistics(statistics),
        box,
        jax.tree.map(jnp.float32, config),
        key,
        jnp.int32(0),
    )


def normalize(state: State, observations: chex.Array) -> chex.Array:
    """What the networks read of raw observations [..., O]."""
    return jnp.clip(state.normalizer(observations), -CLIP, CLIP)


def _network(state: State, config: Config) -> Any:
    sizes = state.action_box.low.shape[-1], state.normalizer.mean.shape[-1]
    return Network(config, *sizes)


def loss_fn(
    params: Pytree, state: State, batch: Batch, config: Config
) -> tuple[chex.Array, dict[str, chex.Array]]:
    """Mean over the kinds of goals of the squared error per action entry.

    To it comes the error of reconstructed goals, where there is one.
    """
    network, losses, extra = _network(state, config), {}, {}
    if batch.states is not None:
        goals = normalize(state, batch.states.goals)
        latents = network.apply(params, goals, method="encode_state")
        if config.reconstruction:
            error = network.apply(params, latents, method="decode") - goals
            extra["gcbc/reconstruction"] = config.reconstruction * jnp.mean(error**2)
        key = jax.random.fold_in(state.key, state.step)
        latents += config.goal_noise * jax.random.normal(key, latents.shape)
        losses["gcbc/states"] = _error(params, state, batch.states, latents, config)
    if batch.language is not None:
        goals = batch.language.goals
        latents = network.apply(params, goals, method="encode_text")
        losses["gcbc/language"] = _error(params, state, batch.language, latents, config)
    loss = sum(losses.values()) / len(losses) + sum(extra.values())
    return loss, losses | extra | {"gcbc/loss": loss}


def _error(
    params: Pytree,
    state: State,
    examples: Examples,
    latents: chex.Array,
    config: Config,
) -> chex.Array:
    """Mean squared error of the chunks per action entry, over the steps that count."""
    observations = normalize(state, examples.observations)
    predicted = _network(state, config).apply(
        params, observations, latents, method="act"
    )
    actions = state.action_box.to_unit(examples.actions)
    errors = jnp.mean((actions - predicted) ** 2, axis=-1) * examples.mask
    return jnp.sum(errors) / jnp.maximum(jnp.sum(examples.mask), 1.0)


def update(
    state: State, batch: Batch, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One Adam step on a batch of chunks, and one of the averaged parameters."""
    del context
    grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params, state, batch, config)
    updates, opt_state = optax.adam(config.lr).update(grads, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    # Early averages forget quickly, or they would remember the initial parameters.
    decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
    ema = optax.incremental_update(params, state.ema, 1 - decay)
    state = state.replace(
        params=params, ema=ema, opt_state=opt_state, step=state.step + 1
    )
    return state, metrics


def encode_goal(state: State, observations: chex.Array, config: Config) -> chex.Array:
    """Latents [..., Z] of raw goal states [..., O]."""
    goals = normalize(state, observations)
    return _network(state, config).apply(state.ema, goals, method="encode_state")


def encode_text(state: State, sentences: chex.Array, config: Config) -> chex.Array:
    """Latents [..., Z] of embedded instructions [..., E]."""
    return _network(state, config).apply(state.ema, sentences, method="encode_text")


def chunk(
    state: State, observations: chex.Array, latents: chex.Array, config: Config
) -> chex.Array:
    """The environment's next K actions [..., K, A] at raw observations [..., O]."""
    normalized = normalize(state, observations)
    network = _network(state, config)
    actions = network.apply(state.ema, normalized, latents, method="act")
    return state.action_box.from_unit(actions)


def empty(state: State, config: Config) -> Carry:
    """The carry of an agent that has no goal yet."""
    actions = jnp.zeros((config.chunk, state.action_box.low.shape[-1]))
    return Carry(actions, jnp.int32(0))


def begin(
    state: State,
    observation: chex.Array,
    latent: chex.Array,
    key: Key,
    config: Config,
) -> Carry:
    """Carry at the moment a goal is set: the next action begins a new chunk."""
    del observation, latent, key
    return empty(state, config)


def distribution_for_goal(
    state: State,
    carry: Carry,
    observation: chex.Array,
    latent: chex.Array,
    key: Key,
    config: Config,
) -> tuple[Distribution, Carry]:
    """The next action towards a goal, a point, and the carry after it.

    Args:
      state: trained.
      carry: of `begin` or of the step before.
      observation: raw, [O].
      latent: of `encode_goal` or `encode_text`, [Z].
      key: not read.
      config: hyperparameters.
    """
    del key
    place = carry.index % config.execute
    fresh = chunk(state, observation, latent, config)
    actions = jnp.where(place == 0, fresh, carry.actions)
    box = state.action_box
    distribution = point(actions[place], box.shift, box.scale)
    return distribution, Carry(actions, carry.index + 1)
