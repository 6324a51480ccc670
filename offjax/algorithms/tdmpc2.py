"""TD-MPC2 (Hansen et al., 2024, arXiv:2310.16828), trained from a dataset alone.

A model in a latent space without a decoder, rolled out over H steps from the first
observation of a slice of the data: z_0 = h(s_0), z_{t+1} = d(z_t, a_t). Minimised is

    Σ_t ρᵗ [ c_z ‖z_{t+1} − sg h(s_{t+1})‖²/Z + c_r CE(R(z_t, a_t), r_t)
             + c_q mean_k CE(Q_k(z_t, a_t), y_t) ] / H  (+ c_d BCE(D(z_{t+1}), d_t)),
    y_t = r_t + γ (1 − d_t) min_{two random k} Q̄_k(h(s_{t+1}), a),  a ~ π(h(s_{t+1}))

with d_t = 1 where the MDP ended. Rewards and values are distributions over bins of
symlog x, their targets two-hot, their value symexp of the expected bin. The policy
prior, tanh of a Gaussian, then maximises over the same z_t, without moving them,

    Σ_t ρᵗ E [ mean_{two random k} Q_k(z_t, a)/S + α A·H(N(μ, σ²)) ] / (H + 1),

S being a running estimate, at least 1, of the 5 to 95 % range of Q at t = 0. As in the
authors' code the entropy is that of the Gaussian before tanh, times the number A of
action dimensions (its correction for tanh cancels against a rescaling).

Published single-task training is online; here the data are fixed and there is no
pessimism, so that values of actions that the data lack may be too high. The model
that ends episodes, D, belongs to `episodic` tasks: planning then counts no reward after
an end. How to act is in `tdmpc2_acting`.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.algorithms.common import Network, Trained, descend, inputs_of, trained
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.distributions import LOG_2PI
from offjax.errors import UserError
from offjax.networks.tdmpc2 import SIZES, Bins, NormedEnsemble, NormedMLP
from offjax.types import Context, Key, Pytree, config, static

GROUP = 8  # entries of a simplex of the latent
LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0
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
      polyak: share of the target critics, and of S, that an update replaces.
      max_grad_norm: norms of the model's and of the policy's gradient are clipped to
        it.
      dropout: share of the first layer's units that training leaves out of a critic.
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
    polyak: float = 0.01
    max_grad_norm: float = 20.0
    dropout: float = static(default=0.01)
    size: str = "5M"
    horizon: int = 3
    episodic: bool = False
    num_bins: int = 101
    bin_limit: float = static(default=10.0)
    batch_size: int = 256

    @property
    def bins(self) -> Bins:
        """How rewards and values are represented."""
        return Bins(self.num_bins, self.bin_limit)


class Batch(NamedTuple):
    """Slices of H steps within one episode."""

    observations: chex.Array  # [B, H + 1, O] raw
    actions: chex.Array  # [B, H, A] environment's
    rewards: chex.Array  # [B, H]
    terminals: chex.Array  # [B, H] 1 where the MDP ended


class Noise(NamedTuple):
    """What is random in an update, dropout aside."""

    target: chex.Array  # [H, B, A] standard normal, of the next actions
    policy: chex.Array  # [H + 1, B, A]
    target_pair: chex.Array  # [2] critics of the target
    policy_pair: chex.Array  # [2]


class State(flax.struct.PyTreeNode):
    """Model, policy prior, target critics, and the transforms of the data."""

    model: Trained  # params: encoder, dynamics, reward, q (, termination)
    policy: Trained
    target_q: Pytree
    scale: chex.Array  # [] S
    normalizer: Normalizer
    action_box: ActionBox
    key: Key
    step: chex.Array


def validate(config: Config) -> None:
    """Raises `UserError` for settings that make no sense."""
    if config.size not in SIZES:
        raise UserError(
            f"tdmpc2: size={config.size!r} is not one of {', '.join(SIZES)}."
        )
    for name, least in (("horizon", 1), ("num_bins", 2), ("batch_size", 1)):
        if getattr(config, name) < least:
            raise UserError(
                f"tdmpc2: {name}={getattr(config, name)}; it must be at least {least}."
            )


def network(part: str, config: Config, action_dim: int = 1) -> Network:
    """The module of one part of the model, or of the "policy"."""
    size = SIZES[config.size]
    widths = (size.mlp_dim, size.mlp_dim)
    if part == "encoder":
        return NormedMLP((size.encoder_dim,), size.latent_dim, GROUP)
    if part == "dynamics":
        return NormedMLP(widths, size.latent_dim, GROUP)
    if part == "q":
        return NormedEnsemble(widths, config.num_bins, size.num_q, config.dropout)
    if part == "reward":
        return NormedMLP(widths, config.num_bins, zero_output=True)
    return NormedMLP(widths, 2 * action_dim if part == "policy" else 1)


def _model_optimiser(config: Config) -> optax.GradientTransformation:
    def slow_encoder(updates: Pytree, params: Pytree) -> Pytree:
        del params
        slow = jax.tree.map(lambda u: config.encoder_lr_scale * u, updates["encoder"])
        return {**updates, "encoder": slow}

    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(config.lr),
        optax.stateless(slow_encoder),
    )


def _policy_optimiser(config: Config) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(config.lr, eps=POLICY_EPSILON),
    )


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for its statistics."""
    del context
    validate(config)
    observation, action, normalizer, action_box = inputs_of(example)
    latent = jnp.zeros(SIZES[config.size].latent_dim)
    both = jnp.concatenate([latent, action])
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
        part: network(part, config, len(action)).init(part_key, x)
        for part_key, (part, x) in zip(keys, inputs.items(), strict=True)
    }
    policy = params.pop("policy")
    return State(
        trained(params, _model_optimiser(config)),
        trained(policy, _policy_optimiser(config)),
        jax.tree.map(jnp.copy, params["q"]),
        jnp.ones(()),
        normalizer,
        action_box,
        key,
        jnp.int32(0),
    )


def apply(part: str, params: Pytree, x: chex.Array, config: Config) -> chex.Array:
    """One part of the model on its inputs."""
    return network(part, config).apply(params[part], x)


def join(latents: chex.Array, actions: chex.Array) -> chex.Array:
    """Inputs of dynamics, reward and critics."""
    return jnp.concatenate([latents, actions], axis=-1)


def rollout(
    params: Pytree, first: chex.Array, actions: chex.Array, config: Config
) -> chex.Array:
    """Latents z_0 … z_H [H + 1, B, Z] from z_0 [B, Z] and actions [H, B, A]."""

    def step(latents: chex.Array, now: chex.Array) -> tuple[chex.Array, chex.Array]:
        latents = apply("dynamics", params, join(latents, now), config)
        return latents, latents

    _, following = jax.lax.scan(step, first, actions)
    return jnp.concatenate([first[None], following])


def q_logits(
    params: Pytree,
    latents: chex.Array,
    actions: chex.Array,
    config: Config,
    key: Key | None = None,
) -> chex.Array:
    """All critics' logits [num_q, ..., num_bins]; with a key, dropout acts."""
    dropout = key is not None and config.dropout > 0
    rngs = {"dropout": key} if dropout else {}
    return network("q", config).apply(
        params, join(latents, actions), dropout, rngs=rngs
    )


def policy_moments(
    params: Pytree, latents: chex.Array, action_dim: int, config: Config
) -> tuple[chex.Array, chex.Array]:
    """Mean and log deviation before tanh, [..., A] each."""
    outputs = network("policy", config, action_dim).apply(params, latents)
    mean, raw = jnp.split(outputs, 2, axis=-1)
    span = 0.5 * (LOG_STD_MAX - LOG_STD_MIN)
    return mean, LOG_STD_MIN + span * (jnp.tanh(raw) + 1)


def policy_sample(
    params: Pytree, latents: chex.Array, noise: chex.Array, config: Config
) -> tuple[chex.Array, chex.Array]:
    """Actions [..., A] in [-1, 1] for standard normal noise, and −log N [...] of u."""
    mean, log_std = policy_moments(params, latents, noise.shape[-1], config)
    entropy = jnp.sum(0.5 * noise**2 + log_std + 0.5 * LOG_2PI, axis=-1)
    return jnp.tanh(mean + jnp.exp(log_std) * noise), entropy


def draw(key: Key, rows: Batch, config: Config) -> Noise:
    """The randomness of an update on time-major rows."""
    keys = jax.random.split(key, 4)
    horizon, *shape = rows.actions.shape
    num_q = SIZES[config.size].num_q
    return Noise(
        jax.random.normal(keys[0], (horizon, *shape)),
        jax.random.normal(keys[1], (horizon + 1, *shape)),
        jax.random.permutation(keys[2], num_q)[:2],
        jax.random.permutation(keys[3], num_q)[:2],
    )


def td_targets(
    state: State, rows: Batch, noise: Noise, config: Config
) -> tuple[chex.Array, chex.Array]:
    """Encoded next observations [H, B, Z] and the critics' targets y [H, B]."""
    latents = apply("encoder", state.model.params, rows.observations[1:], config)
    actions, _ = policy_sample(state.policy.params, latents, noise.target, config)
    logits = q_logits(state.target_q, latents, actions, config)
    q = config.bins.expectation(logits[noise.target_pair]).min(0)
    return latents, rows.rewards + config.discount * (1 - rows.terminals) * q


def model_loss(
    params: Pytree,
    rows: Batch,
    next_latents: chex.Array,
    targets: chex.Array,
    config: Config,
    key: Key | None = None,
) -> tuple[chex.Array, tuple[chex.Array, dict[str, chex.Array]]]:
    """Loss of the model on time-major rows, transformed as networks see them.

    Args:
      params: of the model.
      rows: observations [H + 1, B, O], actions [H, B, A] in [-1, 1], and so on.
      next_latents: what z_{t+1} should be, [H, B, Z].
      targets: y, [H, B].
      config: settings.
      key: of dropout; without it nothing is left out.

    Returns:
      The loss, and (z_0 … z_H [H + 1, B, Z], each term of the loss without its weight).
    """
    first = apply("encoder", params, rows.observations[0], config)
    latents = rollout(params, first, rows.actions, config)
    here = join(latents[:-1], rows.actions)
    reward = apply("reward", params, here, config)
    q = q_logits(params["q"], latents[:-1], rows.actions, config, key)
    decay = config.rho ** jnp.arange(config.horizon)
    error = jnp.mean((latents[1:] - next_latents) ** 2, axis=(1, 2))
    reward_error = jnp.mean(config.bins.cross_entropy(reward, rows.rewards), axis=1)
    value_error = jnp.mean(config.bins.cross_entropy(q, targets), axis=(0, 2))
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
        ends = apply("termination", params, latents[1:], config)
        binary = optax.sigmoid_binary_cross_entropy(ends[..., 0], rows.terminals)
        terms["termination"] = jnp.mean(binary)
        loss += config.termination_weight * terms["termination"]
    return loss, (latents, terms)


def policy_loss(
    params: Pytree,
    q_params: Pytree,
    latents: chex.Array,
    scale: chex.Array,
    noise: Noise,
    config: Config,
    key: Key | None = None,
) -> tuple[chex.Array, tuple[chex.Array, chex.Array]]:
    """Loss of the policy prior at latents [H + 1, B, Z]; aux is the new S, and mean Q.

    The critics are in training, as published: with a key, dropout acts.
    """
    actions, entropy = policy_sample(params, latents, noise.policy, config)
    logits = q_logits(q_params, latents, actions, config, key)
    q = config.bins.expectation(logits[noise.policy_pair]).mean(0)
    low, high = jnp.percentile(jax.lax.stop_gradient(q[0]), jnp.array([5.0, 95.0]))
    scale += config.polyak * (jnp.maximum(high - low, 1.0) - scale)
    bonus = config.entropy_weight * actions.shape[-1] * entropy
    decay = config.rho ** jnp.arange(len(latents))
    return -jnp.mean(decay * jnp.mean(q / scale + bonus, axis=1)), (scale, jnp.mean(q))


def update(
    state: State, batch: Batch, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One step of the model, then of the policy prior, then of the target critics."""
    del context
    rows = Batch(*(jnp.swapaxes(x, 0, 1) for x in batch))
    rows = rows._replace(
        observations=state.normalizer(rows.observations),
        actions=state.action_box.to_unit(rows.actions),
    )
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
    noise = draw(keys[0], rows, config)
    next_latents, targets = td_targets(state, rows, noise, config)
    model, loss, (latents, terms) = descend(
        model_loss,
        state.model,
        _model_optimiser(config),
        rows,
        next_latents,
        targets,
        config,
        keys[1],
    )
    policy, policy_value, (scale, q) = descend(
        policy_loss,
        state.policy,
        _policy_optimiser(config),
        model.params["q"],
        latents,
        state.scale,
        noise,
        config,
        keys[2],
    )
    state = state.replace(
        model=model,
        policy=policy,
        target_q=optax.incremental_update(
            model.params["q"], state.target_q, config.polyak
        ),
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
