"""Action Sequence Planner: k actions at once, return-weighted cross-entropy over time.

A network reads the state at the start of a window (and its time) and predicts the
window's k actions, executed open-loop. With returns-to-go G_t and a target y that is
the action sequence normalised over time, the paper trains

    L = − Σ_t y_t · w(G_t) · log p_t  +  λ · L_KL ,   p = softmax_t(μ).

The paper's equation and its listing differ, and neither fixes the level of the actions
(p is unchanged by μ + c), so there are four modes:

* ``anchored`` (default), where the level is part of the target.
  *Budgets* (``space="simplex"``): by the chain rule of the multinomial the loss over
  an episode is Σ_w ρ_w · CE([y_w, rest]/ρ_w, softmax(u_w)) over windows, ρ_w being the
  budget left; ``rest`` is what is kept for later windows. Decoded a = ρ · softmax(u).
  *Boxes* (``space="box"``): with x the action in [0, 1] and σ = sigmoid(u),
  Σ_t BCE(x_t, σ_t) = S⁺CE(x/S⁺, σ/Σσ) + S⁻CE((1−x)/S⁻, (1−σ)/Σ(1−σ)) + L·BCE(x̄, σ̄)
  − L log L: the shape in time from both sides, and the mass.
* ``equation``: y = (a − m)/Σ(a − m), p linear in the expected action, y-weighted
  Gaussian log-likelihood as L_KL, absolute discounting γᵗ.
* ``listing``: the appendix' code: y_t = a_t/(Σ(a − m) + 1e-5), p = softmax over time
  of the means, w = the standardised return-to-go of each time step, and a KL between
  the batch's average policy and its action statistics; acts with clip(μ).
* ``mle``: Gaussian log-likelihood, a window weighted by the return from its start as
  in ``anchored``; ``step_weights`` weighs each step by the return from there, as the
  listing does, and ``mle_time_reversed`` pairs log-probabilities with those returns in
  opposite order, as the listing prints it.
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
from offjax.errors import UserError
from offjax.networks.mlp import MLP
from offjax.types import Context, Key, Pytree, config, static

MODES = ("anchored", "equation", "listing", "mle")
WEIGHTS = ("exp", "std", "raw", "topq")
SPACES = ("simplex", "box")
EPSILON = 1e-5  # of the listing's divisions


@config
class Config:
    """Hyperparameters.

    Attributes:
      lr: Adam's step size.
      k: actions planned at once, 1…horizon.
      horizon: steps of an episode, T.
      segment_length: steps that the loss looks at together, in the modes that
        normalise over more than a window (equation, listing); T or a chunk of it.
      mode: which loss, see the module.
      space: how anchored plans are decoded.
      weights: w(G): `exp` = min(exp(β·Ĝ), 100), `std` = Ĝ, `raw` = G, `topq` = 1 for
        the best `top_quantile` of the returns; Ĝ is G standardised per time step.
      temperature: β of `exp`.
      discount: γ of the returns-to-go.
      kl_weight: λ (modes equation and listing).
      mass_weight: factor on the mass term of boxes; 1 = binary cross-entropy, 0
        leaves the level undetermined.
      std_min: floor on σ.
      step_weights: of `mle`: each step has its own weight.
      learn_std: whether σ is an output; otherwise it is `std_min` everywhere.
      action_min: m of the listing, in the environment's units.
      random_phase: windows begin anywhere rather than at multiples of k.
      budget_index: entry of the observation that is the budget left.
      position_encoding: whether the network is told the time of the window's start.
    """

    lr: float = 1e-3
    temperature: float = 2.0
    top_quantile: float = 0.1
    kl_weight: float = 0.0
    mass_weight: float = 1.0
    std_min: float = 1e-3
    k: int = 10
    horizon: int = 50
    segment_length: int = 50
    mode: str = "anchored"
    space: str = "box"
    weights: str = "exp"
    discount: float = static(default=0.999)
    action_min: float = static(default=0.0)
    hidden_dims: tuple[int, ...] = (256, 256)
    embedding_dim: int = 64
    batch_size: int = 256
    step_weights: bool = False
    mle_time_reversed: bool = False
    learn_std: bool = True
    random_phase: bool = False
    position_encoding: bool = True
    budget_index: int = 1

    @property
    def windows(self) -> int:
        """Windows of a training segment; the last may be partial."""
        together = self.mode in ("equation", "listing") or self.mle_time_reversed
        return -(-self.segment_length // self.k) if together else 1


def validate(config: Config) -> None:
    """Raises `UserError` for settings that make no sense together."""
    for name, known in (("mode", MODES), ("space", SPACES), ("weights", WEIGHTS)):
        if getattr(config, name) not in known:
            raise UserError(
                f"asp: {name}={getattr(config, name)!r} is not one of "
                f"{', '.join(known)}."
            )
    if not 1 <= config.k <= config.horizon:
        raise UserError(
            f"asp: k={config.k} actions cannot be planned in episodes of "
            f"T={config.horizon} steps; k must be between 1 and T."
        )
    for name in ("segment_length", "batch_size", "embedding_dim"):
        if getattr(config, name) < 1:
            raise UserError(f"asp: {name}={getattr(config, name)} must be positive.")
    if config.embedding_dim % 2:
        raise UserError(
            f"asp: embedding_dim={config.embedding_dim} must be even: half sines of "
            "the time, half cosines."
        )
    if config.mode in ("anchored", "mle") and config.kl_weight:
        raise UserError(
            f"asp: kl_weight={config.kl_weight} has no meaning in mode "
            f"{config.mode!r}; it belongs to the modes equation and listing."
        )
    if config.mle_time_reversed and config.mode != "mle":
        raise UserError("asp: mle_time_reversed=True needs mode='mle'.")


class Batch(NamedTuple):
    """Segments cut in W windows of k steps; steps beyond the episode are masked."""

    observations: chex.Array  # [B, W, O] at window starts
    times: chex.Array  # [B, W] steps since the episode began
    actions: chex.Array  # [B, W, k, A]
    returns: chex.Array  # [B, W, k] returns-to-go
    standard: chex.Array  # [B, W, k] standardised over the dataset, per time step
    ranks: chex.Array  # [B, W, k] share of that time's returns below; ties by row
    mask: chex.Array  # [B, W, k] 1 within the episode


class State(flax.struct.PyTreeNode):
    """All that changes, and the transforms of the data it was trained on."""

    params: Pytree
    opt_state: optax.OptState
    normalizer: Normalizer
    action_box: ActionBox
    key: Key
    step: chex.Array


class Planner(nn.Module):
    """State embedding + position encoding → MLP → outputs of the whole window."""

    config: Config
    output_dim: int

    @nn.compact
    def __call__(self, observations: chex.Array, times: chex.Array) -> chex.Array:
        """[..., O] (normalised), [...] → [..., output_dim]."""
        x = nn.Dense(self.config.embedding_dim)(observations)
        if self.config.position_encoding:
            x = x + _sinusoids(times, self.config.embedding_dim)
        return MLP(self.config.hidden_dims, self.output_dim, output_scale=0.01)(x)


def _sinusoids(times: chex.Array, width: int) -> chex.Array:
    """Sine and cosine codes of `times` [...], as in transformers: [..., width]."""
    rates = jnp.exp(-jnp.log(1e4) * jnp.arange(width // 2) / (width // 2))
    angles = jnp.asarray(times)[..., None] * rates
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def _network(config: Config, action_dim: int) -> Planner:
    if config.mode != "anchored":
        width = 2 * config.k * action_dim
    elif config.space == "simplex":
        width = config.k + 1  # the last is what is kept for later
    else:
        width = config.k * action_dim
    return Planner(config, width)


def _outputs(
    params: Pytree, state: State, observations: Any, times: Any, config: Config
) -> chex.Array:
    action_dim = state.action_box.low.shape[-1]
    network = _network(config, action_dim)
    return network.apply(params, state.normalizer(observations), times)


def _moments(outputs: chex.Array, config: Config) -> tuple[chex.Array, chex.Array]:
    """[..., 2kA] → means and standard deviations, each [..., k, A]."""
    shaped = outputs.reshape(*outputs.shape[:-1], config.k, -1)
    mean, raw_std = jnp.split(shaped, 2, axis=-1)
    learnt = jax.nn.softplus(raw_std) if config.learn_std else jnp.zeros_like(raw_std)
    return mean, config.std_min + learnt


def return_weights(batch: Batch, config: Config) -> chex.Array:
    """w(G) for every step, [B, W, k]; see `Config.weights`."""
    if config.weights == "exp":
        return jnp.minimum(jnp.exp(config.temperature * batch.standard), 100.0)
    if config.weights == "std":
        return batch.standard
    if config.weights == "raw":
        return batch.returns
    return (batch.ranks >= 1.0 - config.top_quantile).astype(jnp.float32)


def simplex_logits(
    outputs: chex.Array, times: chex.Array, config: Config
) -> chex.Array:
    """Window logits [..., k + 1] with the prior of the rest and past-the-end masks.

    Equal outputs mean equal spending in all remaining steps: the rest's prior is the
    number of steps after the window (1e-4 where there is none).
    """
    times = jnp.asarray(times)[..., None]
    after = jnp.maximum(config.horizon - times - config.k, 1e-4)
    beyond = times + jnp.arange(config.k) >= config.horizon
    steps = jnp.where(beyond, -jnp.inf, outputs[..., :-1])
    return jnp.concatenate([steps, outputs[..., -1:] + jnp.log(after)], axis=-1)


def budget_loss(outputs: chex.Array, batch: Batch, config: Config) -> chex.Array:
    """Cross-entropy of the budget's split over the window and the rest."""
    left = batch.observations[..., config.budget_index]
    spent = batch.actions[..., 0] * batch.mask
    rest = jnp.maximum(left - spent.sum(-1), 0.0)
    target = jnp.concatenate([spent, rest[..., None]], axis=-1)  # times `left`
    logits = simplex_logits(outputs, batch.times, config)
    log_probs = jax.nn.log_softmax(logits)
    terms = jnp.where(target > 0, target * jnp.maximum(log_probs, -1e4), 0.0)
    return -jnp.mean(return_weights(batch, config)[..., 0] * terms.sum(-1))


def box_loss(
    outputs: chex.Array, batch: Batch, box: ActionBox, config: Config
) -> chex.Array:
    """Shape in time from both sides plus mass, weighted by the window's return."""
    u = outputs.reshape(batch.actions.shape)
    x = 0.5 * (jnp.clip(box.to_unit(batch.actions), -1.0, 1.0) + 1.0)
    mask = batch.mask[..., None]
    log_p, log_q = jax.nn.log_sigmoid(u), jax.nn.log_sigmoid(-u)
    count = jnp.maximum(mask.sum(-2, keepdims=True), 1.0)

    def total(v: chex.Array) -> chex.Array:
        return (v * mask).sum(-2, keepdims=True)

    binary = -total(x * log_p + (1.0 - x) * log_q)
    x_mean = total(x) / count
    mass = jnp.clip(total(jnp.exp(log_p)) / count, 1e-6, 1.0 - 1e-6)
    mean_binary = -count * (x_mean * jnp.log(mass) + (1 - x_mean) * jnp.log(1 - mass))
    # By the identity in the module's docstring, shape = binary − mean_binary + const.
    loss = binary + (config.mass_weight - 1.0) * mean_binary
    weights = return_weights(batch, config)[..., :1]
    return jnp.mean(weights * loss[..., 0, :])


def _over_time(batch: Batch, values: chex.Array) -> chex.Array:
    """[B, W, k, A] → [B, L, A] with steps beyond the episode at 0."""
    flat = (values * batch.mask[..., None]).reshape(
        values.shape[0], -1, values.shape[-1]
    )
    return flat


def equation_loss(
    outputs: chex.Array, batch: Batch, box: ActionBox, config: Config
) -> chex.Array:
    """The printed equation: −Σ y G log p + λ Σ y (log y − log π(a))."""
    mean, std = _moments(outputs, config)
    share = _over_time(batch, jax.nn.sigmoid(mean))
    actions = 0.5 * (box.to_unit(batch.actions) + 1.0)
    shifted = _over_time(batch, actions)
    low = jnp.min(jnp.where(batch.mask[..., None] > 0, actions, jnp.inf), axis=(1, 2))[
        :, None
    ]
    shifted = jnp.maximum(shifted - low, 0.0) * _over_time(batch, jnp.ones_like(mean))
    y = shifted / jnp.maximum(shifted.sum(1, keepdims=True), EPSILON)
    log_p = jnp.log(share / share.sum(1, keepdims=True) + 1e-12)
    steps = batch.times[..., None] + jnp.arange(config.k)
    weights = return_weights(batch, config) * config.discount**steps
    weights = _over_time(batch, weights[..., None])
    cross_entropy = -(y * weights * log_p).sum(1).mean()
    log_pi = _log_normal(actions, jax.nn.sigmoid(mean), std)
    log_y = jnp.log(jnp.maximum(y, 1e-12))
    kl = (y * (log_y - _over_time(batch, log_pi))).sum(1).mean()
    return cross_entropy + config.kl_weight * kl


def listing_loss(outputs: chex.Array, batch: Batch, config: Config) -> chex.Array:
    """The appendix' second listing, term by term."""
    mean, std = _moments(outputs, config)
    valid = _over_time(batch, jnp.ones_like(mean))
    actions = _over_time(batch, batch.actions)
    mass = _over_time(batch, batch.actions - config.action_min)
    y = actions / (mass.sum(1, keepdims=True) + EPSILON)
    flat_mean = mean.reshape(valid.shape)
    log_p = jax.nn.log_softmax(jnp.where(valid > 0, flat_mean, -jnp.inf), axis=1)
    log_p = jnp.where(valid > 0, log_p, 0.0)
    weights = _over_time(batch, return_weights(batch, config)[..., None])
    cross_entropy = -jnp.sum(y * log_p * weights) / valid.sum()
    kl = _marginal_kl(flat_mean, std.reshape(valid.shape), actions, valid)
    return cross_entropy + config.kl_weight * kl


def _marginal_kl(
    mean: chex.Array, std: chex.Array, actions: chex.Array, valid: chex.Array
) -> chex.Array:
    """KL(N(mean_b μ, mean_b σ) ‖ N(mean_b a, std_b a)) per time step, averaged."""
    count = jnp.maximum(valid.sum(0), 1.0)
    mu, sigma = (mean * valid).sum(0) / count, (std * valid).sum(0) / count
    a_mean = (actions * valid).sum(0) / count
    squares = ((actions - a_mean) ** 2 * valid).sum(0)
    a_std = jnp.sqrt(squares / jnp.maximum(count - 1.0, 1.0)) + EPSILON
    seen = valid.sum(0) > 0
    sigma = jnp.where(seen, sigma, 1.0)
    kl = jnp.log(a_std / sigma) + (sigma**2 + (mu - a_mean) ** 2) / (2 * a_std**2) - 0.5
    return jnp.where(seen, kl, 0.0).sum() / jnp.maximum(seen.sum(), 1)


def _log_normal(x: chex.Array, mean: chex.Array, std: chex.Array) -> chex.Array:
    z = (x - mean) / std
    return -0.5 * z**2 - jnp.log(std) - 0.5 * jnp.log(2 * jnp.pi)


def mle_loss(
    outputs: chex.Array, batch: Batch, box: ActionBox, config: Config
) -> chex.Array:
    """−mean of w(G) · log N(a_t; μ_t, σ_t), actions mapped to [-1, 1]."""
    mean, std = _moments(outputs, config)
    log_pi = _over_time(batch, _log_normal(box.to_unit(batch.actions), mean, std))
    weights = return_weights(batch, config)
    if not (config.step_weights or config.mle_time_reversed):
        weights = jnp.broadcast_to(weights[..., :1], weights.shape)
    weights = _over_time(batch, weights[..., None])
    if config.mle_time_reversed:
        weights = weights[:, ::-1]
    return -jnp.sum(log_pi * weights) / (batch.mask.sum() * log_pi.shape[-1])


def loss_fn(params: Pytree, state: State, batch: Batch, config: Config) -> chex.Array:
    """The loss of `config.mode` on a batch of segments."""
    outputs = _outputs(params, state, batch.observations, batch.times, config)
    if config.mode == "equation":
        return equation_loss(outputs, batch, state.action_box, config)
    if config.mode == "listing":
        return listing_loss(outputs, batch, config)
    if config.mode == "mle":
        return mle_loss(outputs, batch, state.action_box, config)
    if config.space == "simplex":
        return budget_loss(outputs, batch, config)
    return box_loss(outputs, batch, state.action_box, config)


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for its statistics."""
    del context
    statistics = example.statistics
    box = ActionBox(statistics.action_low, statistics.action_high)
    network = _network(config, box.low.shape[-1])
    observation = jnp.zeros_like(statistics.observation_mean)
    params = network.init(key, observation, jnp.float32(0))
    opt_state = optax.adam(config.lr).init(params)
    normalizer = Normalizer.from_statistics(statistics)
    return State(params, opt_state, normalizer, box, key, jnp.int32(0))


def update(
    state: State, batch: Batch, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One Adam step on a batch of segments."""
    del context
    loss, grads = jax.value_and_grad(loss_fn)(state.params, state, batch, config)
    updates, opt_state = optax.adam(config.lr).update(grads, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    metrics = {"asp/loss": loss, "asp/grad_norm": optax.global_norm(grads)}
    state = state.replace(params=params, opt_state=opt_state, step=state.step + 1)
    return state, metrics


def plan(
    state: State, observation: chex.Array, time: chex.Array, config: Config
) -> chex.Array:
    """The next k environment actions [k, A] from one raw observation [O]."""
    outputs = _outputs(state.params, state, observation, time, config)
    box = state.action_box
    if config.mode == "anchored" and config.space == "simplex":
        left = observation[config.budget_index]
        shares = jax.nn.softmax(simplex_logits(outputs, time, config))
        return (left * shares[:-1])[:, None]
    if config.mode == "anchored":
        u = outputs.reshape(config.k, -1)
        return box.from_unit(2.0 * jax.nn.sigmoid(u) - 1.0)
    mean, _ = _moments(outputs, config)
    if config.mode == "listing":
        return mean
    if config.mode == "equation":
        return box.from_unit(2.0 * jax.nn.sigmoid(mean) - 1.0)
    return box.from_unit(mean)
