"""Action Sequence Planner: k actions at once, return-weighted cross-entropy over time.

A network reads the state at the start of a window (and its time) and predicts the
window's k actions, executed open-loop. With returns-to-go G_t and a target y that is
the action sequence normalized over time, the paper trains

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
* ``equation`` and ``listing``, as printed: `offjax.methods.asp_printed`.
* ``mle``: Gaussian log-likelihood, a window weighted by the return from its start as
  in ``anchored``, or with ``step_weights`` each step by the return from there.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offjax.datasets.normalize import ActionBox
from offjax.datasets.windows import WindowData, Windows, WindowView
from offjax.distributions import Distribution, point
from offjax.errors import UserError, require_least, require_option
from offjax.methods import asp_printed
from offjax.methods.common import TrainState, domain, narrow, pick, start, zeros
from offjax.networks.planner import Planner
from offjax.networks.trained import Trained, apply_gradients, trained
from offjax.types import (
    Actor,
    Array,
    EnvSpec,
    Key,
    Method,
    Model,
    Params,
    Pytree,
    Recipe,
    Stage,
    Upstream,
    config,
    static,
)

MODES = ("anchored", "equation", "listing", "mle")
WEIGHTS = ("exp", "std", "batch_std", "raw", "topq")
SPACES = ("simplex", "box")


@config
class Config:
    """Hyperparameters.

    Attributes:
      k: actions planned at once, 1…horizon.
      horizon: steps of an episode, T.
      segment_length: steps that the loss looks at together, in the modes that
        normalize over more than a window (equation, listing); T or a chunk of it.
      mode: which loss, see the module.
      space: how anchored plans are decoded.
      weights: w(G): `exp` = min(exp(β·Ĝ), 100), `std` = Ĝ, `raw` = G, `topq` = 1 for
        the best `top_quantile` of the returns. Ĝ is G standardized per time step over
        the dataset; `batch_std` is Ĝ over the batch, as in the listing.
      temperature: β of `exp`.
      top_quantile: share of the returns that `topq` keeps.
      discount: γ of the returns-to-go.
      kl_weight: λ (modes equation and listing).
      std_min: floor on σ.
      step_weights: of `mle`: each step has its own weight.
      learn_std: whether σ is an output; otherwise it is `std_min` everywhere.
      action_min: m of the listing, in the environment's units.
      random_phase: windows begin anywhere rather than at multiples of k.
      budget_index: entry of the observation that is the budget left.
      embedding_dim: width of the position's code.
      position_encoding: whether the network reads the time of the window's start.
    """

    lr: float = 1e-3
    temperature: float = 2.0
    top_quantile: float = 0.1
    kl_weight: float = 0.0
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
    learn_std: bool = True
    random_phase: bool = False
    position_encoding: bool = True
    budget_index: int = 1

    @property
    def windows(self) -> int:
        """Windows of a training segment; the last may be partial."""
        together = self.mode in ("equation", "listing")
        return -(-self.segment_length // self.k) if together else 1

    def validate(self) -> None:
        """Raises `UserError` for settings that make no sense together."""
        require_option("mode", self.mode, MODES)
        require_option("space", self.space, SPACES)
        require_option("weights", self.weights, WEIGHTS)
        require_least(1, segment_length=self.segment_length, batch_size=self.batch_size)
        if not 1 <= self.k <= self.horizon:
            raise UserError(
                f"asp: k={self.k} actions cannot be planned in episodes of "
                f"T={self.horizon} steps; k must be between 1 and T."
            )
        if self.embedding_dim < 1 or self.embedding_dim % 2:
            raise UserError(
                f"asp: embedding_dim={self.embedding_dim} must be even and above 0: "
                "half sines of the time, half cosines."
            )
        if self.mode in ("anchored", "mle") and self.kl_weight:
            raise UserError(
                f"asp: kl_weight={self.kl_weight} has no meaning in mode "
                f"{self.mode!r}; it belongs to the modes equation and listing."
            )


class State(TrainState):
    """The planner's network."""

    planner: Trained


def _network(config: Config, action_dim: int) -> Planner:
    if config.mode != "anchored":
        width = 2 * config.k * action_dim
    elif config.space == "simplex":
        width = config.k + 1  # the last is what is kept for later
    else:
        width = config.k * action_dim
    return Planner(
        width, config.hidden_dims, config.embedding_dim, config.position_encoding
    )


def init(key: Key, data: WindowData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    observation, action = zeros(data)
    params = _network(config, action.shape[-1]).init(key, observation, jnp.float32(0))
    return State(**start(key, data), planner=trained(params, optax.adam(config.lr)))


def _outputs(
    params: Pytree, state: State, observations: Any, times: Any, config: Config
) -> Array:
    network = _network(config, state.action_box.low.shape[-1])
    return network.apply(params, state.normalizer(observations), times)


def return_weights(batch: Windows, config: Config) -> Array:
    """w(G) for every step, [B, W, k]; see `Config.weights`."""
    if config.weights == "exp":
        return jnp.minimum(jnp.exp(config.temperature * batch.standard), 100.0)
    if config.weights == "std":
        return batch.standard
    if config.weights == "batch_std":
        return asp_printed.batch_standard(batch)
    if config.weights == "raw":
        return batch.returns
    return (batch.ranks >= 1.0 - config.top_quantile).astype(jnp.float32)


def simplex_logits(outputs: Array, times: Array, config: Config) -> Array:
    """Window logits [..., k + 1] with the prior of the rest and past-the-end masks.

    Equal outputs mean equal spending in all remaining steps: the rest's prior is the
    number of steps after the window (1e-4 where there is none).
    """
    times = jnp.asarray(times)[..., None]
    after = jnp.maximum(config.horizon - times - config.k, 1e-4)
    beyond = times + jnp.arange(config.k) >= config.horizon
    steps = jnp.where(beyond, -jnp.inf, outputs[..., :-1])
    return jnp.concatenate([steps, outputs[..., -1:] + jnp.log(after)], axis=-1)


def budget_loss(outputs: Array, batch: Windows, config: Config) -> Array:
    """Cross-entropy of the budget's split over the window and the rest."""
    left = batch.observations[..., config.budget_index]
    spent = batch.actions[..., 0] * batch.mask
    rest = jnp.maximum(left - spent.sum(-1), 0.0)
    target = jnp.concatenate([spent, rest[..., None]], axis=-1)  # times `left`
    logits = simplex_logits(outputs, batch.times, config)
    log_probs = jax.nn.log_softmax(logits)
    terms = jnp.where(target > 0, target * jnp.maximum(log_probs, -1e4), 0.0)
    return -jnp.mean(return_weights(batch, config)[..., 0] * terms.sum(-1))


def box_loss(outputs: Array, batch: Windows, box: ActionBox, config: Config) -> Array:
    """Binary cross-entropy over the window, weighted by the return from its start."""
    u = outputs.reshape(batch.actions.shape)
    x = 0.5 * (jnp.clip(box.to_unit(batch.actions), -1.0, 1.0) + 1.0)
    terms = x * jax.nn.log_sigmoid(u) + (1.0 - x) * jax.nn.log_sigmoid(-u)
    binary = -(terms * batch.mask[..., None]).sum(-2)
    return jnp.mean(return_weights(batch, config)[..., :1] * binary)


def loss(
    params: Pytree, state: State, batch: Windows, key: Key, config: Config
) -> tuple[Array, None]:
    """The loss of `config.mode` on a batch of segments."""
    box = state.action_box
    outputs = _outputs(params, state, batch.observations, batch.times, config)
    if config.mode == "anchored" and config.space == "simplex":
        return budget_loss(outputs, batch, config), None
    if config.mode == "anchored":
        return box_loss(outputs, batch, box, config), None
    mean, std = asp_printed.moments(outputs, config)
    weights = return_weights(batch, config)
    if config.mode == "mle":
        return asp_printed.mle_loss(mean, std, weights, batch, box, config), None
    if config.mode == "listing":
        return asp_printed.listing_loss(mean, std, weights, batch, config), None
    return asp_printed.equation_loss(mean, std, weights, batch, box, config), None


def update(
    state: State, batch: Windows, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One Adam step on a batch of segments."""
    # Not `descend`: the paper's claim is about the size of these gradients.
    (value, _), grads = jax.value_and_grad(loss, has_aux=True)(
        state.planner.params, state, batch, state.key, config
    )
    planner = apply_gradients(state.planner, grads, optax.adam(config.lr))
    metrics = {"asp/loss": value, "asp/grad_norm": optax.global_norm(grads)}
    return state.replace(planner=planner, step=state.step + 1), metrics


def plan(model: Model, observation: Array, time: Array, noise: Any = 0.0) -> Array:
    """The next k environment actions [k, A] from one raw observation [O].

    Where the mode has a Gaussian, `noise` [k, A] is added in standard deviations; 0
    takes its mean.
    """
    state, config = model.state, model.config
    outputs = _outputs(state.planner.params, state, observation, time, config)
    box = state.action_box
    if config.mode == "anchored" and config.space == "simplex":
        left = observation[config.budget_index]
        shares = jax.nn.softmax(simplex_logits(outputs, time, config))
        return (left * shares[:-1])[:, None]
    if config.mode == "anchored":
        u = outputs.reshape(config.k, -1)
        return box.from_unit(2.0 * jax.nn.sigmoid(u) - 1.0)
    mean, std = asp_printed.moments(outputs, config)
    return asp_printed.decode(mean, std * noise, box, config.mode)


METHOD = Method("asp", 1, init, update)


@config
class Execution:
    """How a plan is executed.

    Attributes:
      sample: draws the actions from the Gaussian of the modes equation, listing and
        mle, in place of its mean.
    """

    sample: bool = False


class Carry(NamedTuple):
    """The plan that is being executed and where it stands."""

    actions: Array  # [k, A]
    index: Array  # [] next action of the plan
    time: Array  # [] steps since the episode began


@dataclasses.dataclass(frozen=True)
class PlanningActor(Actor):
    """Plans `period` = k actions, and executes them open-loop."""

    period: int = 1

    def begin(self, params: Params, task: Pytree, key: Key) -> Carry:
        """An empty plan at time 0."""
        low = params.models["asp"].state.action_box.low
        plan = jnp.zeros((self.period, low.shape[-1]))
        return Carry(plan, jnp.int32(0), jnp.int32(0))

    def plan(self, params: Params, carry: Carry, observation: Array, key: Key) -> Carry:
        """A new window from the present observation."""
        noise: Any = 0.0
        if params.acting["execution"].sample:
            noise = jax.random.normal(key, carry.actions.shape)
        actions = plan(params.models["asp"], observation, carry.time, noise)
        return Carry(actions, jnp.int32(0), carry.time)

    def act(
        self, params: Params, carry: Carry, observation: Array, reward: Array, key: Key
    ) -> tuple[Distribution, Carry]:
        """The plan's next action, as a point."""
        box = params.models["asp"].state.action_box
        return point(carry.actions[carry.index], box.shift, box.scale), carry

    def record(self, carry: Carry, action: Array) -> Carry:
        """One step further in the plan."""
        return Carry(carry.actions, carry.index + 1, carry.time + 1)


def stage(spec: EnvSpec | None, preset: str, **settings: Any) -> Stage:
    """Stage `asp`; k = T on budgets, 10 elsewhere."""
    horizon = spec.horizon if spec is not None else 1000
    base: dict[str, Any] = narrow(preset) | {"horizon": horizon}
    if domain(spec) == "budget":
        base |= {"space": "simplex", "k": horizon, "segment_length": horizon}
    else:
        # Long streams have no common clock: none is encoded, windows begin anywhere.
        base |= {
            "k": min(10, horizon),
            "segment_length": min(100, horizon),
            "random_phase": True,
            "position_encoding": False,
            "discount": 0.99,
        }
    steps = pick(preset, paper=100_000, small=50_000, demo=5_000)
    return Stage("asp", METHOD, Config(**(base | settings)), WindowView(), steps)


def validate(recipe: Recipe, dataset: Any) -> None:
    """Refuses to sample where the mode has no Gaussian."""
    del dataset
    if recipe.acting["execution"].sample and recipe.config("asp").mode == "anchored":
        raise UserError(
            "asp: execution.sample=True has no meaning in mode 'anchored', which "
            "predicts actions, not Gaussians; leave it out, or choose the mode "
            "equation, listing or mle."
        )


def _recipe(name: str, stage: Stage) -> Recipe:
    return Recipe(
        name,
        (stage,),
        lambda recipe: PlanningActor(recipe.config("asp").k),
        acting={"execution": Execution()},
        validate=validate,
    )


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """ASPlanner: anchored cross-entropy."""
    return _recipe("asp", stage(spec, preset))


def one_step(spec: EnvSpec | None, preset: str) -> Recipe:
    """The ablation that plans one action at a time."""
    return _recipe("asp_k1", stage(spec, preset, k=1))


def likelihood(spec: EnvSpec | None, preset: str) -> Recipe:
    """The ablation with weighted Gaussian likelihood in place of cross-entropy."""
    return _recipe("asp_mle", stage(spec, preset, mode="mle"))


def listing(spec: EnvSpec | None, preset: str) -> Recipe:
    """The printed code: signed weights of the batch, softmax over time, λ·KL.

    m is the lowest action, γ as printed. λ is ours, for plans of some 50 steps: useful
    values fall with the square of their number.
    """
    settings: dict[str, Any] = {"mode": "listing", "weights": "batch_std"}
    settings |= {"discount": 0.999, "kl_weight": 1e-4}
    settings["action_min"] = min(spec.action_low) if spec else 0.0
    return _recipe("asp_listing", stage(spec, preset, **settings))


def equation(spec: EnvSpec | None, preset: str) -> Recipe:
    """The printed equation: raw returns, linear in the expected action, λ·L_KL.

    λ is ours: the paper gives none.
    """
    settings: dict[str, Any] = {"mode": "equation", "weights": "raw", "kl_weight": 0.1}
    return _recipe("asp_equation", stage(spec, preset, **settings))
