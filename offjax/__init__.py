"""offjax: offline reinforcement learning in JAX, many seeds in one program.

    dataset = offjax.load_dataset("offjax/maze2d/umaze-v0")
    run = offjax.train(offjax.recipe("asp", preset="small"), dataset, num_seeds=8)
    scores = offjax.evaluate(run, episodes=100)

Names are imported when they are first used, so that commands which need no JAX (the
leaderboard) do not pay for it.
"""

from __future__ import annotations

import importlib
from typing import Any

from offjax.registration import register

_WHERE = {
    "Dataset": "offjax.datasets.dataset",
    "load_dataset": "offjax.catalog.load",
    "recipe": "offjax.runner.run",
    "train": "offjax.runner.run",
    "train_together": "offjax.runner.run",
    "evaluate": "offjax.runner.run",
    "load_run": "offjax.runner.run",
    "load_agent": "offjax.agents.load",
}

register()


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'offjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
