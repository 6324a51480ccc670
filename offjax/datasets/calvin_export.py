"""Writes play of a scene into CALVIN's folders (see `offjax.datasets.calvin`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from offjax.datasets.calvin import ANNOTATIONS, BOUNDS, RECORDED, TESTED, frame
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, require
from offjax.datasets.text import encode
from offjax.envs.scene import CENTER, PROPRIOCEPTION
from offjax.errors import UserError


def write(
    dataset: Dataset, folder: str | Path, split: str = "training", rows: int = 0
) -> None:
    """Writes play of a scene as CALVIN has it, but without images.

    The proprioceptive entries of the observation become `robot_obs`, the others
    `scene_obs`; `rel_actions` are the actions, and `actions` the next frame's pose
    and gripper opening. Sentences are embedded as hashed words; each instruction is
    tested in the first sentence that it has.

    Args:
      dataset: with annotations and next observations.
      folder: of the splits; made if missing.
      split: training or validation.
      rows: how many to write, rounded down to whole episodes; 0 for all.

    Raises:
      UserError: there are no annotations, the rows hold no complete episode, or the
        split is there already.
    """
    spans, place = require(dataset), Path(folder).expanduser() / split
    ends = dataset.episode_ends
    ends = ends[ends <= (rows or len(dataset))]
    if len(ends) == 0:
        raise UserError(
            f"The first {rows} rows of {dataset.card.id!r} hold no complete episode; "
            f"ask for at least {dataset.episode_ends[0]}."
        )
    if place.exists():
        raise UserError(
            f"{place} is there already; remove it or choose another folder."
        )
    place.mkdir(parents=True)
    poses = _poses(dataset)
    for row in range(ends[-1]):
        np.savez_compressed(
            frame(place, row),
            robot_obs=dataset.observations[row, :PROPRIOCEPTION],
            scene_obs=dataset.observations[row, PROPRIOCEPTION:],
            rel_actions=dataset.actions[row],
            actions=poses[row],
        )
    starts = np.concatenate([[0], ends[:-1]])
    np.save(place / BOUNDS, np.stack([starts, ends - 1], axis=1))
    np.save(place / "ep_lens.npy", ends - starts)
    spans = spans.select(spans.ends <= ends[-1])
    (place / ANNOTATIONS).mkdir()
    _write_language(spans, place / ANNOTATIONS)


def _write_language(spans: Annotations, place: Path) -> None:
    """Described spans, and a sentence for each instruction, with their embeddings."""
    vectors = encode(spans.sentences).sentence[:, None]
    described = {
        "language": {
            "ann": [spans.text(i) for i in range(len(spans))],
            "task": [spans.names[i] for i in spans.instructions],
            "emb": vectors[spans.texts],
        },
        "info": {
            "indx": list(
                zip(spans.starts.tolist(), (spans.ends - 1).tolist(), strict=True)
            ),
            "episodes": [],
        },
    }
    first = {
        spans.names[i]: int(spans.texts[spans.instructions == i].min())
        for i in np.unique(spans.instructions)
    }
    tested = {
        name: {"ann": [spans.sentences[text]], "emb": vectors[text][None]}
        for name, text in first.items()
    }
    np.save(place / RECORDED, np.array(described, object))
    np.save(place / TESTED, np.array(tested, object))


def _poses(dataset: Dataset) -> np.ndarray:
    """Position, yaw and gripper opening after each row, [N, 5]."""
    after = dataset.next_observations
    if after is None:
        raise UserError(
            f"Dataset {dataset.card.id!r} holds no next observations, from which the "
            "absolute actions are read."
        )
    position = after[:, 12:15] / 10 + CENTER
    yaw = np.arctan2(after[:, 16], after[:, 15])
    return np.column_stack([position, yaw, after[:, 17] / 3]).astype(np.float32)
