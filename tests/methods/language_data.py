"""A small play dataset made of a point that walks to colored corners on command."""

import numpy as np

from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, LanguageDataset, annotate
from offjax.types import EnvSpec

CORNERS = {"red": (1, 1), "green": (1, -1), "blue": (-1, 1), "white": (-1, -1)}
WORDINGS = ("go to the {} corner", "walk towards {}")
SPEC = EnvSpec(
    id="test/Corners-v0",
    observation_dim=2,
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    horizon=40,
    domain="scene",
)


def corners(
    num_episodes: int = 20, length: int = 40, segment: int = 10, seed: int = 0
) -> LanguageDataset:
    """Episodes of `length` steps, each of segments of `segment` steps to one corner.

    Observations are positions in [-1, 1]², actions displacements divided by 0.2, and
    every segment is annotated with one of two wordings.
    """
    rng = np.random.default_rng(seed)
    names = tuple(CORNERS)
    sentences = tuple(w.format(name) for name in names for w in WORDINGS)
    rows = num_episodes * length
    observations = np.zeros((rows, 2), np.float32)
    following = np.zeros((rows, 2), np.float32)
    actions = np.zeros((rows, 2), np.float32)
    spans, goals, texts = [], [], []
    for row in range(rows):
        if row % length == 0:
            position = rng.uniform(-1, 1, 2)
        if row % segment == 0:
            goal = rng.integers(len(names))
            spans.append((row, min(row + segment, (row // length + 1) * length)))
            goals.append(goal)
            texts.append(2 * goal + rng.integers(2))
        way = np.array(CORNERS[names[goal]]) - position
        action = np.clip(way / 0.2 + 0.1 * rng.normal(size=2), -1, 1)
        observations[row], actions[row] = position, action
        position = np.clip(position + 0.2 * action, -1, 1)
        following[row] = position
    timeouts = np.zeros(rows, bool)
    timeouts[length - 1 :: length] = True
    dataset = Dataset.from_arrays(
        observations,
        actions,
        np.zeros(rows),
        np.zeros(rows, bool),
        timeouts,
        following,
        spec=SPEC,
        id="test/corners-v0",
    )
    starts, ends = np.array(spans).T
    return annotate(
        dataset,
        Annotations(starts, ends, np.array(goals), np.array(texts), names, sentences),
    )
