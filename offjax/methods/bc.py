"""Behavior cloning: maximum likelihood of the recorded actions.

    gaussian       minimize  −E log N(u; μ(s), σ(s)²)
    mixture        minimize  −E log Σ_i λ_i(s) N(u; μ_i(s), σ_i(s)²)
    deterministic  minimize   E ‖u − tanh μ(s)‖²

with u the action mapped to [-1, 1], or with `squashed` its inverse tanh, so that the
policy is tanh of a Gaussian or mixture (Li et al., Closed-Form Policy Improvement
Operators, 2023). `percent_bc` clones the best episodes only (Chen et al., Decision
Transformer, 2021, section 5). On pixels a convolutional encoder comes before the policy
(`offjax.methods.pixels`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from offjax.datasets import convert
from offjax.datasets.dataset import Dataset
from offjax.datasets.views import TransitionData, TransitionView
from offjax.distributions import Distribution, point
from offjax.errors import require_least, require_option
from offjax.methods.common import (
    Network,
    TrainState,
    domain,
    memoryless,
    narrow,
    pick,
    start,
    zeros,
)
from offjax.methods.pixels import (
    PixelConfig,
    encoder_sizes,
    seeing,
    shifted,
    standardized,
)
from offjax.networks.mixture import GaussianMixture
from offjax.networks.mlp import MLP
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
    Transitions,
    Upstream,
    config,
    static,
)

HEADS = {"gaussian": "gaussian", "mixture": "mixture", "deterministic": "point"}
"""Head → kind of its distribution."""


@config
class Config(PixelConfig):
    """Hyperparameters.

    Attributes:
      head: "gaussian", "mixture" or "deterministic".
      num_components: components of a mixture.
      squashed: whether actions are tanh of the Gaussian or mixture.
      log_std_min: lower clip of the log deviation.
      log_std_max: upper clip.
    """

    actor_lr: float = 1e-3
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    head: str = "gaussian"
    num_components: int = 4
    squashed: bool = False
    log_std_min: float = -5.0
    log_std_max: float = 2.0

    def validate(self) -> None:
        """Refuses an unknown head, and a mixture without components."""
        PixelConfig.validate(self)
        require_option("head", self.head, HEADS)
        require_least(1, num_components=self.num_components)


class State(TrainState):
    """The policy."""

    actor: Trained


def _network(config: Config, action_dim: int) -> Network:
    policy: Network
    if config.head == "mixture":
        policy = GaussianMixture(config.hidden_dims, config.num_components, action_dim)
    else:
        width = action_dim if config.head == "deterministic" else 2 * action_dim
        policy = MLP(config.hidden_dims, width, output_scale=0.01)
    return seeing(policy, config)


def _policy(
    params: Pytree, observations: Array, config: Config, action_dim: int
) -> tuple[Array, Array, Array]:
    """Log weights [..., N], means and deviations [..., N, A]; N = 1 but in mixtures."""
    out = _network(config, action_dim).apply(params, observations)
    if config.head == "mixture":
        logits, means, log_stds = out
    else:
        logits = jnp.zeros((*observations.shape[:-1], 1))
        if config.head == "deterministic":
            means = jnp.tanh(out)[..., None, :]
            return logits, means, jnp.zeros_like(means)
        means, log_stds = jnp.split(out[..., None, :], 2, axis=-1)
    log_stds = jnp.clip(log_stds, config.log_std_min, config.log_std_max)
    return logits, means, jnp.exp(log_stds)


def init(key: Key, data: TransitionData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    observation, action = zeros(data)
    actor = _network(config, action.shape[-1]).init(key, observation)
    return State(**start(key, data), actor=trained(actor, optax.adam(config.actor_lr)))


def actor_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, None]:
    """Mean negative log-likelihood (constants dropped) or squared error; no info."""
    actions = state.action_box.to_unit(batch.actions)
    observations = standardized(state, batch.observations, config)
    logits, means, stds = _policy(params, observations, config, actions.shape[-1])
    if config.head == "deterministic":
        return jnp.mean((actions - means[..., 0, :]) ** 2), None
    if config.squashed:
        actions = jnp.arctanh(jnp.clip(actions, -1 + 1e-6, 1 - 1e-6))
        # Recorded latents end at 7.3; this keeps far means from running away.
        means = jnp.clip(means, -9.0, 9.0)
    z = (actions[..., None, :] - means) / stds
    parts = -jnp.sum(0.5 * z**2 + jnp.log(stds), axis=-1)
    log_density = jax.nn.logsumexp(jax.nn.log_softmax(logits) + parts, axis=-1)
    return -jnp.mean(log_density), None


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One Adam step."""
    batch = shifted(state, batch, config)
    adam = optax.adam(config.actor_lr)
    actor, loss, _ = descend(
        actor_loss, state.actor, adam, state, batch, state.key, config
    )
    return state.replace(actor=actor, step=state.step + 1), {"bc/loss": loss}


def act(model: Model, observation: Array, key: Key) -> Distribution:
    """The cloned policy at one raw observation [O]."""
    state, config = model.state, model.config
    box = state.action_box
    seen = standardized(state, observation, config)
    logits, means, stds = _policy(state.actor.params, seen, config, box.low.shape[-1])
    squashed = config.squashed and config.head != "deterministic"
    return Distribution(
        logits, means, stds, box.shift, box.scale, squashed, HEADS[config.head]
    )


def sampled(model: Model, observation: Array, key: Key) -> Distribution:
    """A sample of the cloned policy at one raw observation [O], as a point."""
    distribution = act(model, observation, key)
    action = distribution.sample(key)
    return point(action, distribution.shift, distribution.scale)


METHOD = Method("bc", 1, init, update, act, cameras=True)


@config
class PercentConfig(Config):
    """Hyperparameters of cloning the best episodes.

    Attributes:
      fraction: share of the episodes, the best by return, that is cloned.
    """

    fraction: float = static(default=0.1)


@dataclasses.dataclass(frozen=True)
class BestEpisodes(TransitionView):
    """Transitions of the best `config.fraction` of the episodes."""

    def arrays(
        self, dataset: Dataset, config: PercentConfig, upstream: Upstream
    ) -> TransitionData:
        """They and their own statistics."""
        best = convert.top_fraction(dataset, config.fraction)
        return super().arrays(best, config, upstream)


def stage(spec: EnvSpec | None, preset: str, **settings: Any) -> Stage:
    """Stage `bc`: a Gaussian, on all transitions."""
    settings = narrow(preset) | encoder_sizes(spec, preset) | settings
    steps = pick(preset, paper=500_000, small=100_000, demo=5_000)
    return Stage("bc", METHOD, Config(**settings), TransitionView(), steps)


def cfpi_view(spec: EnvSpec | None, next_actions: bool = False) -> TransitionView:
    """What CFPI's stages read: on AntMaze raw observations, rewards −1 to the goal."""
    antmaze = domain(spec) == "antmaze"
    return TransitionView(
        normalize=not antmaze,
        reward_shift=-1.0 if antmaze else 0.0,
        next_actions=next_actions,
    )


def behavior(spec: EnvSpec | None, preset: str, head: str = "mixture") -> Stage:
    """Stage `bc` of CFPI: tanh of a Gaussian or mixture, or a deterministic policy."""
    published: dict[str, Any] = {
        "actor_lr": 1e-4,
        "hidden_dims": (256, 256, 256),
        "batch_size": 512 if head == "gaussian" else 256,
    }
    ours = narrow(preset) | {"actor_lr": 3e-4}
    config = Config(
        head=head,
        num_components=8 if domain(spec) == "antmaze" else 4,
        squashed=True,
        **encoder_sizes(spec, preset),
        **(published if preset == "paper" else ours),
    )
    steps = pick(preset, paper=500_000, small=100_000, demo=5_000)
    return Stage("bc", METHOD, config, cfpi_view(spec), steps)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Gaussian behavior cloning (`--config.head=deterministic` for the other)."""
    return Recipe("bc", (stage(spec, preset),), memoryless("bc"))


def percent_bc(spec: EnvSpec | None, preset: str) -> Recipe:
    """Cloning of the best tenth of the episodes (10 %-BC)."""
    whole = stage(spec, preset)
    settings = PercentConfig(**dataclasses.asdict(whole.config))
    best = dataclasses.replace(whole, config=settings, view=BestEpisodes())
    return Recipe("percent_bc", (best,), memoryless("bc"))


def bc_gaussian(spec: EnvSpec | None, preset: str) -> Recipe:
    """The behavior model of cfpi_sg alone, acting with its mean."""
    stages = (behavior(spec, preset, "gaussian"),)
    return Recipe("bc_gaussian", stages, memoryless("bc"))


def bc_mixture(spec: EnvSpec | None, preset: str) -> Recipe:
    """The behavior model of cfpi alone, acting with its heaviest mean."""
    return Recipe("bc_mixture", (behavior(spec, preset),), memoryless("bc"))


def bc_mixture_sampled(spec: EnvSpec | None, preset: str) -> Recipe:
    """The behavior model of cfpi alone, acting with a sample, as the release does."""
    stages = (behavior(spec, preset),)
    return Recipe("bc_mixture_sampled", stages, memoryless("bc", sampled))


def bc_deterministic(spec: EnvSpec | None, preset: str) -> Recipe:
    """The behavior model of idet alone."""
    stages = (behavior(spec, preset, "deterministic"),)
    return Recipe("bc_deterministic", stages, memoryless("bc"))
