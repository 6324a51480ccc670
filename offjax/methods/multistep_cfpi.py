"""Multi-step CFPI: critics that evaluate one improved policy after another.

Li et al., Offline Reinforcement Learning with Closed-Form Policy Improvement Operators,
2023. SARSA values the behavior; each of `BLOCKS` blocks then goes on from the critic of
the block before, with that critic's I_MG in place of the recorded next action:

    a'  = I_MG(β, Q_before; τ)(s'),   y = r + γ (1 − terminal) Q̄(s', a')
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from offjax.datasets.dataset import Dataset
from offjax.datasets.views import TransitionData, TransitionView
from offjax.improvement import improvement, operators
from offjax.methods import bc, sarsa
from offjax.methods.common import memoryless, pick
from offjax.methods.iterative_cfpi import improved_actions
from offjax.methods.sarsa import State, q_value, update
from offjax.networks.trained import trained
from offjax.types import (
    EnvSpec,
    Key,
    Method,
    Model,
    Recipe,
    Stage,
    Upstream,
    config,
    static,
)

BLOCKS = 5
CHUNK = 4096
"""Rows whose next actions are improved at once."""


@config
class Config(sarsa.Config):
    """Hyperparameters of a block.

    Attributes:
      log_tau: size of the trust region of its next actions.
    """

    log_tau: float = static(default=0.5)


def _before(upstream: Upstream) -> Model:
    """The critic of the block before."""
    (critic,) = (model for name, model in upstream.items() if name != "bc")
    return critic


def init(key: Key, data: TransitionData, config: Config, upstream: Upstream) -> State:
    """The critics of the block before, with a fresh optimizer."""
    before = jax.tree.map(jnp.copy, _before(upstream).state)
    critic = trained(before.critic.params, optax.adam(config.critic_lr))
    return before.replace(critic=critic, key=key, step=jnp.int32(0))


METHOD = Method("multistep_cfpi", 1, init, update, q_value=q_value)


@dataclasses.dataclass(frozen=True)
class ImprovedView(TransitionView):
    """Transitions whose next action is I_MG by the critic of the block before."""

    per_seed: ClassVar[bool] = True

    def arrays(
        self, dataset: Dataset, config: Config, upstream: Upstream
    ) -> TransitionData:
        """All rows: each has a next action."""
        data = super().arrays(dataset, config, upstream)
        settings = operators.MixtureConfig(log_tau=config.log_tau)
        behavior, q = upstream["bc"], _before(upstream).q_value

        @jax.jit
        def improve(observations: jax.Array) -> jax.Array:
            key = jax.random.PRNGKey(0)
            return improved_actions(behavior, q, observations, settings, key)

        following = np.asarray(data.rows.next_observations)
        padding = ((0, -len(following) % CHUNK), (0, 0))
        padded = np.pad(following, padding, mode="edge")
        chunks = padded.reshape(-1, CHUNK, following.shape[1])
        actions = np.concatenate([np.asarray(improve(jnp.asarray(c))) for c in chunks])
        rows = data.rows._replace(
            next_actions=actions[: len(following)],
            has_next_action=np.ones(len(following), bool),
        )
        return data._replace(rows=rows)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """SARSA, then 5 blocks that evaluate I_MG of the block before; log τ = 0.5."""
    view = ImprovedView(**dataclasses.asdict(bc.cfpi_view(spec)))
    stages = [bc.behavior(spec, preset), sarsa.stage(spec, preset)]
    for i in range(1, BLOCKS + 1):
        block = Stage(
            f"block_{i}",
            METHOD,
            Config(**sarsa.settings(preset)),
            view,
            num_steps=pick(preset, paper=200_000, small=20_000, demo=1_000),
            reads=("bc", stages[-1].name),
        )
        stages.append(block)
    return Recipe(
        "multistep_cfpi",
        tuple(stages),
        memoryless("bc"),
        acting={"ensemble": sarsa.Ensemble()},
        improve=improvement("closed_form_mixture"),
        critic=sarsa.critic(stages[-1].name),
    )
