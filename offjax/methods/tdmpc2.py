"""TD-MPC2 (Hansen et al., 2024, arXiv:2310.16828), trained from a dataset alone.

A model in a latent space without a decoder, rolled out over H steps from the first
observation of a slice of the data: z_0 = h(s_0), z_{t+1} = d(z_t, a_t). Minimized is

    Σ_t ρᵗ [ c_z ‖z_{t+1} − sg h(s_{t+1})‖²/Z + c_r CE(R(z_t, a_t), r_t)
             + c_q mean_k CE(Q_k(z_t, a_t), y_t) ] / H  (+ c_d BCE(D(z_{t+1}), d_t)),
    y_t = r_t + γ (1 − d_t) min_{two random k} Q̄_k(h(s_{t+1}), a),  a ~ π(h(s_{t+1}))

with d_t = 1 where the MDP ended. Rewards and values are distributions over bins of
symlog x, their targets two-hot, their value symexp of the expected bin. The policy
prior, tanh of a Gaussian, then maximizes over the same z_t, without moving them,

    Σ_t ρᵗ E [ mean_{two random k} Q_k(z_t, a)/S + α A·H(N(μ, σ²)) ] / (H + 1),

S being a running estimate, at least 1, of the 5 to 95 % range of Q at t = 0. As in the
authors' code the entropy is that of the Gaussian before tanh, times the number A of
action dimensions (its correction for tanh cancels against a rescaling).

Published single-task training is online; here the data are fixed and there is no
pessimism, so that values of actions that the data lack may be too high. The model
that ends episodes, D, belongs to `episodic` tasks: planning then counts no reward after
an end. How to plan is in `tdmpc2_planning`.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from offjax.datasets.slices import SliceData, Slices, SliceView
from offjax.distributions import Distribution, gaussian
from offjax.errors import require_least, require_option
from offjax.methods import mppi
from offjax.methods.common import (
    TrainState,
    domain,
    memoryless,
    pick,
    soft_update,
    start,
    step_rewards,
    zeros,
)
from offjax.methods.tdmpc2_planning import PlanningActor, encode
from offjax.networks.tdmpc2 import SIZES, Bins, WorldModel, join
from offjax.networks.trained import Trained, descend, trained
from offjax.types import (
    Array,
    EnvSpec,
    Key,
    Method,
    Model,
    Pytree,
    Recipe,
    Stage,
    Upstream,
    config,
    static,
)

POLICY_EPSILON = 1e-5  # of the policy's Adam


@config
class Config:
    """Hyperparameters; the published ones of single tasks.

    Attributes:
      encoder_lr_scale: the encoder's step size, as a share of `lr`.
      rho: ρ.
      consistency_weight: c_z.
      reward_weight: c_r.
      value_weight: c_q.
      termination_weight: c_d.
      entropy_weight: α.
      tau: share of the target critics, and of S, that an update replaces.
      max_grad_norm: norms of the model's and of the policy's gradient are clipped to
        it.
      dropout: share of the first layer's units that training omits from a critic.
      size: of the networks, one of `SIZES`.
      horizon: H, of training and of planning.
      episodic: whether ends of episodes are predicted.
      num_bins: bins of symlog values.
      bin_limit: they range from −bin_limit to bin_limit.
      batch_size: slices of H steps.
    """

    lr: float = 3e-4
    encoder_lr_scale: float = 0.3
    discount: float = 0.99
    rho: float = 0.5
    consistency_weight: float = 20.0
    reward_weight: float = 0.1
    value_weight: float = 0.1
    termination_weight: float = 1.0
    entropy_weight: float = 1e-4
    tau: float = 0.01
    max_grad_norm: float = 20.0
    dropout: float = static(default=0.01)
    size: str = "5M"
    horizon: int = 3
    episodic: bool = False
    num_bins: int = 101
    bin_limit: float = static(default=10.0)
    batch_size: int = 256

    @property
    def world(self) -> WorldModel:
        """The networks."""
        bins = Bins(self.num_bins, self.bin_limit)
        return WorldModel(SIZES[self.size], bins, self.dropout)

    def validate(self) -> None:
        """Raises `UserError` for settings that make no sense."""
        require_option("size", self.size, SIZES)
        require_least(1, horizon=self.horizon, batch_size=self.batch_size)
        require_least(2, num_bins=self.num_bins)


class State(TrainState):
    """Model, policy prior and target critics."""

    model: Trained  # params: encoder, dynamics, reward, q (, termination)
    policy: Trained
    target_critic: Pytree
    scale: Array  # [] S


class Noise(NamedTuple):
    """What is random in an update."""

    target: Array  # [H, B, A] standard normal, of the next actions
    policy: Array  # [H + 1, B, A]
    target_pair: Array  # [2] critics of the target
    policy_pair: Array  # [2]
    model_dropout: Key | None = None  # without a key nothing is omitted
    policy_dropout: Key | None = None


def model_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam after clipping, slower for the encoder."""

    def slow_encoder(updates: Pytree, params: Pytree) -> Pytree:
        slow = jax.tree.map(lambda u: config.encoder_lr_scale * u, updates["encoder"])
        return {**updates, "encoder": slow}

    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(config.lr),
        optax.stateless(slow_encoder),
    )


def policy_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam after clipping."""
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(config.lr, eps=POLICY_EPSILON),
    )


def init(key: Key, data: SliceData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    observation, action = zeros(data)
    latent = jnp.zeros(config.world.size.latent_dim)
    both = join(latent, action)
    inputs = {
        "encoder": observation,
        "dynamics": both,
        "reward": both,
        "q": both,
        "policy": latent,
    }
    if config.episodic:
        inputs["termination"] = latent
    keys = jax.random.split(key, len(inputs))
    params = {
        part: config.world.network(part, len(action)).init(part_key, x)
        for part_key, (part, x) in zip(keys, inputs.items(), strict=True)
    }
    policy = params.pop("policy")
    return State(
        **start(key, data),
        model=trained(params, model_optimizer(config)),
        policy=trained(policy, policy_optimizer(config)),
        target_critic=jax.tree.map(jnp.copy, params["q"]),
        scale=jnp.ones(()),
    )


def time_major(state: State, batch: Slices) -> Slices:
    """Rows [H, B, …] as networks see them: normalized, actions in [-1, 1]."""
    rows = Slices(*(jnp.swapaxes(x, 0, 1) for x in batch))
    return rows._replace(
        observations=state.normalizer(rows.observations),
        actions=state.action_box.to_unit(rows.actions),
    )


def draw(key: Key, rows: Slices, config: Config) -> Noise:
    """The randomness of an update on time-major rows."""
    noise_key, model_key, policy_key = jax.random.split(key, 3)
    keys = jax.random.split(noise_key, 4)
    horizon, *shape = rows.actions.shape
    num_q = config.world.size.num_q
    return Noise(
        jax.random.normal(keys[0], (horizon, *shape)),
        jax.random.normal(keys[1], (horizon + 1, *shape)),
        jax.random.permutation(keys[2], num_q)[:2],
        jax.random.permutation(keys[3], num_q)[:2],
        model_key,
        policy_key,
    )


def td_targets(
    state: State, rows: Slices, noise: Noise, config: Config
) -> tuple[Array, Array]:
    """Encoded next observations [H, B, Z] and the critics' targets y [H, B]."""
    world = config.world
    latents = world.apply("encoder", state.model.params, rows.observations[1:])
    actions, _ = world.policy_sample(state.policy.params, latents, noise.target)
    logits = world.q_logits(state.target_critic, latents, actions)
    q = world.bins.expectation(logits[noise.target_pair]).min(0)
    return latents, rows.rewards + config.discount * (1 - rows.terminals) * q


def model_loss(
    params: Pytree, state: State, rows: Slices, noise: Noise, config: Config
) -> tuple[Array, tuple[Array, dict[str, Array]]]:
    """Loss of the model on time-major rows; info: (z_0 … z_H, each term unweighted)."""
    world = config.world
    next_latents, targets = td_targets(state, rows, noise, config)
    first = world.apply("encoder", params, rows.observations[0])
    latents = world.rollout(params, first, rows.actions)
    here = join(latents[:-1], rows.actions)
    reward = world.apply("reward", params, here)
    q = world.q_logits(params["q"], latents[:-1], rows.actions, noise.model_dropout)
    decay = config.rho ** jnp.arange(config.horizon)
    error = jnp.mean((latents[1:] - next_latents) ** 2, axis=(1, 2))
    reward_error = jnp.mean(world.bins.cross_entropy(reward, rows.rewards), axis=1)
    value_error = jnp.mean(world.bins.cross_entropy(q, targets), axis=(0, 2))
    terms = {
        "consistency": jnp.mean(decay * error),
        "reward": jnp.mean(decay * reward_error),
        "value": jnp.mean(decay * value_error),
    }
    loss = (
        config.consistency_weight * terms["consistency"]
        + config.reward_weight * terms["reward"]
        + config.value_weight * terms["value"]
    )
    if config.episodic:
        ends = world.apply("termination", params, latents[1:])
        binary = optax.sigmoid_binary_cross_entropy(ends[..., 0], rows.terminals)
        terms["termination"] = jnp.mean(binary)
        loss += config.termination_weight * terms["termination"]
    return loss, (latents, terms)


def policy_loss(
    params: Pytree, state: State, latents: Array, noise: Noise, config: Config
) -> tuple[Array, tuple[Array, Array]]:
    """Loss of the policy prior at latents [H + 1, B, Z]; info is the new S, and mean Q.

    The critics are in training, as published: with a key, dropout acts.
    """
    world, critic = config.world, state.model.params["q"]
    actions, entropy = world.policy_sample(params, latents, noise.policy)
    logits = world.q_logits(critic, latents, actions, noise.policy_dropout)
    q = world.bins.expectation(logits[noise.policy_pair]).mean(0)
    low, high = jnp.percentile(jax.lax.stop_gradient(q[0]), jnp.array([5.0, 95.0]))
    scale = state.scale
    scale += config.tau * (jnp.maximum(high - low, 1.0) - scale)
    bonus = config.entropy_weight * actions.shape[-1] * entropy
    decay = config.rho ** jnp.arange(len(latents))
    return -jnp.mean(decay * jnp.mean(q / scale + bonus, axis=1)), (scale, jnp.mean(q))


def update_with(
    state: State, rows: Slices, noise: Noise, config: Config
) -> tuple[State, dict[str, Array]]:
    """One step of the model, then of the policy prior, then of the target critics."""
    model, loss, (latents, terms) = descend(
        model_loss, state.model, model_optimizer(config), state, rows, noise, config
    )
    state = state.replace(model=model)
    adam, args = policy_optimizer(config), (state, latents, noise, config)
    policy, policy_value, (scale, q) = descend(policy_loss, state.policy, adam, *args)
    state = state.replace(
        policy=policy,
        target_critic=soft_update(model.params["q"], state.target_critic, config.tau),
        scale=scale,
        step=state.step + 1,
    )
    metrics = {f"tdmpc2/{name}_loss": term for name, term in terms.items()}
    metrics |= {
        "tdmpc2/loss": loss,
        "tdmpc2/policy_loss": policy_value,
        "tdmpc2/q": q,
        "tdmpc2/q_scale": scale,
    }
    return state, metrics


def update(
    state: State, batch: Slices, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One step of each part, see `update_with`."""
    rows = time_major(state, batch)
    noise = draw(jax.random.fold_in(state.key, state.step), rows, config)
    return update_with(state, rows, noise, config)


def act(model: Model, observation: Array, key: Key) -> Distribution:
    """The policy prior at one raw observation [O]; its mode is tanh of the mean."""
    box, policy = model.state.action_box, model.state.policy.params
    mean, log_std = model.config.world.policy_moments(
        policy, encode(model, observation), box.low.shape[-1]
    )
    return gaussian(mean, jnp.exp(log_std), box.shift, box.scale, squashed=True)


METHOD = Method("tdmpc2", 1, init, update, act)
ENDLESS = ("maze2d", "kitchen")
"""Domains whose episodes no state ends."""
SMALL_SEARCH = {"num_samples": 64, "num_elites": 8, "num_proposals": 4, "iterations": 4}
"""Some sixty times less to compute at each step than the published search."""


def discount(horizon: int) -> float:
    """The published rule: 1 − 5/T, between 0.95 and 0.995."""
    return min(max(1.0 - 5.0 / horizon, 0.95), 0.995)


def stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `tdmpc2`; ours: observations are standardized."""
    config = Config(
        size=pick(preset, paper="5M", small="small", demo="demo"),
        batch_size=pick(preset, paper=256, small=64, demo=32),
        discount=discount(spec.horizon if spec is not None else 1000),
        episodic=domain(spec) not in ENDLESS,
    )
    steps = pick(preset, paper=1_000_000, small=10_000, demo=1_000)
    return Stage("tdmpc2", METHOD, config, SliceView(step_rewards(spec)), steps)


def search(spec: EnvSpec | None, preset: str) -> mppi.Config:
    """Settings of the search; as published, two iterations more from A = 20 on."""
    config = mppi.Config(**({} if preset == "paper" else SMALL_SEARCH))
    if spec is not None and spec.action_dim >= 20:
        config = dataclasses.replace(config, iterations=config.iterations + 2)
    return config


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """TD-MPC2's world model of the dataset, acting by planning in it."""
    return Recipe(
        "tdmpc2",
        (stage(spec, preset),),
        lambda recipe: PlanningActor(),
        acting={"planning": search(spec, preset)},
    )


def policy_recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """The same trained model, acting with the mean of its policy prior."""
    return Recipe("tdmpc2_policy", (stage(spec, preset),), memoryless("tdmpc2"))
