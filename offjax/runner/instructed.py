"""Evaluation of policies that are told what to do: single instructions and chains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from offjax.datasets.dataset import Dataset
from offjax.datasets.texts import embed
from offjax.devices.layout import Layout
from offjax.errors import UserError
from offjax.evaluation import scene
from offjax.evaluation.rollout import Agent
from offjax.runner.options import Options
from offjax.types import EnvSpec, Params, Pytree, Recipe

DOMAIN = "scene"


def encoder(recipe: Recipe) -> scene.Encode:
    """Sentences → task, by the text encoder of the stage that reads it when acting.

    That is the last one with an encoder: a planner comes after the low-level policy
    that it plans for, which then pursues latents and is told nothing.
    """
    told = [s.config for s in recipe.stages if getattr(s.config, "text_encoder", "")]
    config = told[-1]

    def encode(sentences: Sequence[str]) -> Pytree:
        return embed(sentences, config)._asdict()

    return encode


def trials(agent: Agent, dataset: Dataset, options: Options) -> scene.Trials:
    """`eval_episodes` single instructions and `eval_chains` chains.

    A policy that pursues given states is given those that the recording went through
    when it carried out an instruction; there are no chains of them.

    Raises:
      UserError: chains for such a policy, or a recording that cannot be replayed.
    """
    assert dataset.spec is not None
    singles, chains = options.eval_episodes, options.eval_chains
    if agent.actor.given_goals:
        if chains:
            raise UserError(
                f"eval_chains={chains}: this policy pursues states of the recording, "
                "which carries out one instruction at a time; leave eval_chains at 0."
            )
        return scene.Trials(scene.replayed(dataset, singles, options.eval_seed), [])
    name = dict(dataset.spec.kwargs)["scene"]
    return scene.trials(name, singles, chains, options.eval_seed)


def evaluate(
    recipe: Recipe,
    agent: Agent,
    params: Params,
    seeds: Sequence[int],
    layout: Layout,
    spec: EnvSpec,
    given: scene.Trials,
    eval_seed: int,
) -> scene.Scores:
    """Carries out trials with every slot's policy."""
    return scene.evaluate_language(
        agent,
        params,
        seeds,
        layout,
        spec,
        encoder(recipe),
        given,
        eval_seed,
    )


class SlotResult(NamedTuple):
    """What one slot's policy came to.

    Of instructions `mean` is the chains' average length, and `score` the percentage of
    single instructions that succeed; each trial is an episode.
    """

    mean: float
    std: float
    score: float
    trials: int  # full episodes, or single instructions
    episodes: list[tuple[float, int]]  # (return, length)
    metrics: dict[str, float]


def result(scores: scene.Scores, slot: int) -> SlotResult:
    """The single instructions, then the chains, of a slot."""
    singles, chains = scores.singles, scores.chains
    solved = np.concatenate([singles.solved[slot], chains.solved[slot]])
    steps = np.concatenate([singles.steps[slot], chains.steps[slot]])
    if chains.solved.size:
        mean, std, score = scores.row(slot)
    else:
        mine = singles.solved[slot]
        mean, std, score = mine.mean(), mine.std(), 100.0 * scores.success[slot]
    episodes = [
        (float(n), int(length)) for n, length in zip(solved, steps, strict=True)
    ]
    trials = singles.solved.shape[1]
    return SlotResult(mean, std, score, trials, episodes, scores.metrics(slot))
