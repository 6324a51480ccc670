"""Soft actor-critic, for the policies that collect locomotion data.

Updates improve twin critics, and after every `policy_delay` of them the tanh Gaussian
actor and the temperature α; `update_many` scans over many in one program.

Sources: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications" (learned
temperature, target entropy −A); Fujimoto et al. 2018, "Addressing Function
Approximation Error in Actor-Critic Methods" (delayed policy updates). The critics have
LayerNorm before each activation, so that they learn at three times the usual rate;
rates fall linearly to a tenth over the last half of the training.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from offjax.networks.gaussian import tanh_sample
from offjax.networks.trained import Trained, descend, trained
from offjax.types import Key, Pytree, config

LOG_STD_RANGE = (-5.0, 2.0)


@config
class Config:
    """Hyperparameters; the rates are Adam's at first.

    With `bfloat16`, products of hidden layers take bfloat16 factors and add in
    float32: several times faster on processors that multiply such matrices.
    """

    actor_lr: float = 5e-4
    critic_lr: float = 1e-3
    temperature_lr: float = 1e-3  # of log α
    discount: float = 0.99  # γ
    tau: float = 0.01  # step of the target critics, each time they move
    hidden_dims: tuple[int, ...] = (256, 256)  # of actor and critics
    batch_size: int = 128
    num_updates: int = 500_000  # of the critics in all, for the rates' schedule
    bfloat16: bool = False
    policy_delay: int = 2  # updates of the critics per update of everything else


class Batch(NamedTuple):
    """Rows for one update; `terminals` is 1 where the MDP ended."""

    observations: chex.Array  # [B, O]
    actions: chex.Array  # [B, A] in [-1, 1]
    rewards: chex.Array  # [B]
    next_observations: chex.Array  # [B, O]
    terminals: chex.Array  # [B]


class State(NamedTuple):
    """All that learning changes."""

    actor: Trained
    critics: Trained
    target_critics: Pytree
    log_temperature: Trained
    step: chex.Array


def init(key: Key, observation_dim: int, action_dim: int, config: Config) -> State:
    """Fresh networks for observations [O] and actions [A]; α = 1."""
    actor_key, *critic_keys = jax.random.split(key, 3)
    widths = (*config.hidden_dims,)
    actor = init_mlp(actor_key, (observation_dim, *widths, 2 * action_dim))
    sizes = (observation_dim + action_dim, *widths, 1)
    critics = jax.vmap(lambda k: init_mlp(k, sizes, layer_norm=True))(
        jnp.stack(critic_keys)
    )
    optimizer = _optimizer(config.actor_lr, config.num_updates)
    return State(
        trained(actor, optimizer),
        trained(critics, optimizer),
        jax.tree.map(jnp.copy, critics),
        trained(jnp.zeros(()), optimizer),
        jnp.zeros((), jnp.int32),
    )


def init_mlp(key: Key, sizes: tuple[int, ...], layer_norm: bool = False) -> Pytree:
    """Layers {w [in, out], b [out]} of a multi-layer perceptron, inputs first.

    Weights are Uniform(±1/√in); the last layer's are a hundredth of it. With
    `layer_norm` hidden layers have a `scale` and an `offset` [out] too.
    """
    layers = []
    keys = jax.random.split(key, len(sizes) - 1)
    for i, (k, fan_in, width) in enumerate(
        zip(keys, sizes[:-1], sizes[1:], strict=True)
    ):
        last = i == len(sizes) - 2
        bound = (0.01 if last else 1.0) / fan_in**0.5
        layer = {
            "w": jax.random.uniform(k, (fan_in, width), minval=-bound, maxval=bound),
            "b": jnp.zeros(width),
        }
        if layer_norm and not last:
            layer |= {"scale": jnp.ones(width), "offset": jnp.zeros(width)}
        layers.append(layer)
    return layers


def mlp(params: Pytree, x: chex.Array, bfloat16: bool = False) -> chex.Array:
    """[B, in] → [B, out], ReLU after each layer but the last.

    Inputs and outputs keep their float32 digits: only hidden products are rounded.
    """
    for i, layer in enumerate(params[:-1]):
        product = _rounded_product if bfloat16 and i > 0 else jnp.matmul
        x = product(x, layer["w"]) + layer["b"]
        if "scale" in layer:
            x = x - x.mean(axis=-1, keepdims=True)
            x = x * jax.lax.rsqrt(jnp.square(x).mean(axis=-1, keepdims=True) + 1e-6)
            x = x * layer["scale"] + layer["offset"]
        x = jax.nn.relu(x)
    return x @ params[-1]["w"] + params[-1]["b"]


@jax.custom_vjp
def _rounded_product(x: chex.Array, w: chex.Array) -> chex.Array:
    """x·w of factors rounded to bfloat16, added in float32; so are its gradients."""
    return _contract(_round(x), _round(w), 1, 0)


def _round(x: chex.Array) -> chex.Array:
    """To the nearest bfloat16, which is the upper half of a float32."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + jnp.uint32(0x8000)
    return jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)


def _contract(x: chex.Array, y: chex.Array, axis_x: int, axis_y: int) -> chex.Array:
    """Sum over one axis of each of two bfloat16 matrices, in float32."""
    dimensions = (((axis_x,), (axis_y,)), ((), ()))
    return jax.lax.dot_general(x, y, dimensions, preferred_element_type=jnp.float32)


def _product_forward(
    x: chex.Array, w: chex.Array
) -> tuple[chex.Array, tuple[chex.Array, chex.Array]]:
    x, w = _round(x), _round(w)
    return _contract(x, w, 1, 0), (x, w)


def _product_backward(
    residuals: tuple[chex.Array, chex.Array], gradient: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """In the layouts that processors with such products have kernels for.

    The transpose must be made before the product and not within it, and its rows come
    in two halves: of one large product XLA makes a plain loop.
    """
    x, w = residuals
    gradient = _round(gradient)
    turned = jax.lax.optimization_barrier(x.T)
    halves = [_contract(half, gradient, 1, 0) for half in jnp.array_split(turned, 2)]
    return _contract(gradient, w, 1, 1), jnp.concatenate(halves)


_rounded_product.defvjp(_product_forward, _product_backward)


def gaussian(
    actor: Pytree, observations: chex.Array, bfloat16: bool = False
) -> tuple[chex.Array, chex.Array]:
    """Latent mean and log deviation [B, A] of observations [B, O].

    The log deviation is squashed into `LOG_STD_RANGE` by tanh.
    """
    mean, raw = jnp.split(mlp(actor, observations, bfloat16), 2, axis=-1)
    low, high = LOG_STD_RANGE
    return mean, low + 0.5 * (high - low) * (jnp.tanh(raw) + 1)


@jax.jit
def act(actor: Pytree, observations: chex.Array, key: Key) -> chex.Array:
    """Sampled actions [B, A] in [-1, 1]."""
    mean, log_std = gaussian(actor, observations)
    noise = jax.random.normal(key, mean.shape)
    return tanh_sample(mean, log_std, noise)[0]


def q_values(
    critics: Pytree, observations: chex.Array, actions: chex.Array, config: Config
) -> chex.Array:
    """Values by each critic, [2, B]."""
    x = jnp.concatenate([observations, actions], axis=-1)
    return jax.vmap(lambda critic: mlp(critic, x, config.bfloat16)[:, 0])(critics)


def targets(
    state: State, batch: Batch, noise: chex.Array, config: Config
) -> chex.Array:
    """r + γ·(1 − d)·(min Q'(s', a') − α·log π(a'|s')), [B]; a' from noise [B, A]."""
    mean, log_std = gaussian(
        state.actor.params, batch.next_observations, config.bfloat16
    )
    actions, log_prob = tanh_sample(mean, log_std, noise)
    values = q_values(state.target_critics, batch.next_observations, actions, config)
    temperature = jnp.exp(state.log_temperature.params)
    value = values.min(axis=0) - temperature * log_prob
    return batch.rewards + config.discount * (1 - batch.terminals) * value


def critic_loss(
    critics: Pytree, batch: Batch, target: chex.Array, config: Config
) -> tuple[chex.Array, chex.Array]:
    """Σ over critics of the mean squared error; and the mean value."""
    values = q_values(critics, batch.observations, batch.actions, config)
    return jnp.square(values - target).mean(axis=1).sum(), values.mean()


def actor_loss(
    actor: Pytree,
    critics: Pytree,
    temperature: chex.Array,
    batch: Batch,
    noise: chex.Array,
    config: Config,
) -> tuple[chex.Array, chex.Array]:
    """Mean of α·log π(a|s) − min Q(s, a); and the mean log density."""
    mean, log_std = gaussian(actor, batch.observations, config.bfloat16)
    actions, log_prob = tanh_sample(mean, log_std, noise)
    values = q_values(critics, batch.observations, actions, config)
    loss = temperature * log_prob - values.min(axis=0)
    return loss.mean(), log_prob.mean()


def temperature_loss(
    log_temperature: chex.Array, log_prob: chex.Array, action_dim: int
) -> tuple[chex.Array, None]:
    """−log α·(log π + target entropy), the target entropy being −A."""
    return -log_temperature * jax.lax.stop_gradient(log_prob - action_dim), None


def update(
    state: State, batches: Batch, noise: chex.Array, config: Config
) -> tuple[State, dict[str, chex.Array]]:
    """One update of the critics per batch, then one of everything else.

    Args:
      state: before.
      batches: rows, [policy_delay, B, ...].
      noise: [policy_delay + 1, B, A] standard normal: for next actions, then for the
        actor's.
      config: hyperparameters.
    """
    for i in range(config.policy_delay):
        batch = jax.tree.map(lambda x, i=i: x[i], batches)
        target = jax.lax.stop_gradient(targets(state, batch, noise[i], config))
        critics, loss, value = descend(
            critic_loss,
            state.critics,
            _optimizer(config.critic_lr, config.num_updates),
            batch,
            target,
            config,
        )
        state = state._replace(critics=critics)
    num_updates = config.num_updates // config.policy_delay
    actor, _, log_prob = descend(
        actor_loss,
        state.actor,
        _optimizer(config.actor_lr, num_updates),
        critics.params,
        jnp.exp(state.log_temperature.params),
        batch,
        noise[-1],
        config,
    )
    log_temperature, _, _ = descend(
        temperature_loss,
        state.log_temperature,
        _optimizer(config.temperature_lr, num_updates),
        log_prob,
        batch.actions.shape[-1],
    )
    target_critics = optax.incremental_update(
        critics.params, state.target_critics, config.tau
    )
    metrics = {
        "critic_loss": loss,
        "q": value,
        "entropy": -log_prob,
        "temperature": jnp.exp(log_temperature.params),
    }
    step = state.step + config.policy_delay
    return State(actor, critics, target_critics, log_temperature, step), metrics


@functools.partial(jax.jit, donate_argnums=0, static_argnames="config")
def update_many(
    state: State, batches: Batch, key: Key, config: Config
) -> tuple[State, dict[str, chex.Array]]:
    """Updates on batches [U, B, ...] in turn; metrics are means over them.

    U is a multiple of `policy_delay`.
    """
    delay = config.policy_delay

    def body(state: State, group: Batch) -> tuple[State, dict[str, chex.Array]]:
        step_key = jax.random.fold_in(key, state.step)
        _, rows, width = group.actions.shape
        noise = jax.random.normal(step_key, (delay + 1, rows, width))
        return update(state, group, noise, config)

    groups = jax.tree.map(lambda x: x.reshape(-1, delay, *x.shape[1:]), batches)
    state, metrics = jax.lax.scan(body, state, groups)
    return state, jax.tree.map(jnp.mean, metrics)


def _optimizer(rate: float, num_updates: int) -> optax.GradientTransformation:
    half = num_updates // 2
    schedule = optax.join_schedules(
        [
            optax.constant_schedule(rate),
            optax.linear_schedule(rate, 0.1 * rate, max(half, 1)),
        ],
        [half],
    )
    return optax.adam(schedule)
