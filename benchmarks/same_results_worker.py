"""Trains small cases with whatever offjax is on the path, and writes what came out.

    python same_results_worker.py list FILE
    python same_results_worker.py train FOLDER PRESET NUM_STEPS METHOD@WORLD ...

`benchmarks.same_results` copies this file out of the checkout and runs it against two
of them, so both sides train the same cases on the same data with the same code around
them. It therefore imports nothing of a checkout but what its `--- adapters ---` name.

Each case becomes `FOLDER/CASE.npz`: every leaf of every stage's final state, [seeds,
...], as STAGE/PATH, and either `evaluation/returns` and `evaluation/lengths` or, where
the world has no environment here, `acting/seed_S` [steps, A]. A case that fails leaves
its traceback in `FOLDER/CASE.error`.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

VERSION = 1
"""Raise it whenever data, cases or settings change: kept results carry it."""
NUM_SEEDS, EPISODES, ACTIONS = 2, 2, 20
NUM_STEPS = {"iterative_cfpi": 510} | dict.fromkeys(
    ("lcd", "lcd_code", "lcd_thesis", "lcd_hulc", "diffuser"), 104
)
"""Updates of each stage, where something happens only later than `FEW` updates:
improved targets after 500, moving averages after 100."""
FEW = 24


class World(NamedTuple):
    """A small data set's shape, and its environment.

    Attributes:
      spec: fields of `EnvSpec`.
      evaluated: whether its environment scores policies here.
      name: of the dataset, where settings hang on it.
      episodes: number and length.
    """

    spec: Mapping[str, Any]
    evaluated: bool = False
    name: str = ""
    episodes: tuple[int, int] = (12, 40)


def _box(observation_dim: int, action_dim: int, low: float = -1.0) -> dict[str, Any]:
    return {
        "observation_dim": observation_dim,
        "action_low": (low,) * action_dim,
        "action_high": (1.0,) * action_dim,
        "horizon": 40,
    }


WORLDS = {
    "maze2d": World(
        _box(4, 2)
        | {
            "id": "offjax/Maze2D-v0",
            "domain": "maze2d",
            "kwargs": (("maze", "umaze"), ("dense", False)),
        },
        evaluated=True,
    ),
    "budget": World(
        _box(3, 1, low=0.0)
        | {
            "id": "offjax/BudgetAllocation-v0",
            "domain": "budget",
            "kwargs": (("horizon", 20), ("instance", 0), ("kappa", 1.5)),
            "horizon": 20,
        },
        evaluated=True,
        episodes=(30, 20),
    ),
    "hopper": World(
        _box(11, 3) | {"id": "Hopper-v4", "domain": "locomotion"},
        evaluated=True,
        name="offjax/hopper/medium-v0",
    ),
    "antmaze": World(_box(29, 8) | {"id": "antmaze-umaze-v2", "domain": "antmaze"}),
    "adroit": World(_box(45, 24) | {"id": "pen-human-v1", "domain": "adroit"}),
    "kitchen": World(_box(60, 9) | {"id": "kitchen-mixed-v0", "domain": "kitchen"}),
    "play": World(
        _box(6, 2) | {"id": "guard/Play-v0", "domain": "scene"}, episodes=(10, 120)
    ),
    "cubes": World(
        _box(37, 5)
        | {
            "id": "offjax/cube-double",
            "domain": "scene",
            "kwargs": (("scene", "cube-double"),),
        },
        episodes=(10, 120),
    ),
}
"""Domains with settings of their own."""

PLAY = (
    *("gcbc", "gcbc_goal", "mcil", "hulc", "diffuser"),
    *("lcd", "lcd_code", "lcd_thesis", "lcd_hulc", "lcd_mlp"),
)
ELSEWHERE = {
    "budget": ("asp", "asp_k1", "asp_mle", "bc", "td3_bc", "iql", "cql", "awac", "bcq"),
    "hopper": ("iql", "cql", "awac", "asp", "decision_transformer", "reinformer_awac"),
    "antmaze": ("cfpi", "iql", "cql", "td3_bc", "awac", "reinformer_original"),
    "adroit": ("iql", "cql", "tdmpc2"),
    "kitchen": ("iql", "tdmpc2_policy", "reinformer_original"),
    "cubes": ("gcbc", "hulc", "lcd", "diffuser"),
}
"""World → methods that are trained there beside their usual one."""
COMPOSED = (
    "bc_mixture+sarsa_iqn+closed_form_mixture",
    "bc_gaussian+cql+closed_form_gaussian",
    "bc_deterministic+iql+closed_form_deterministic",
    "bc_mixture+iql+mode_selection",
    "bc_vae+sarsa_iqn+best_of_n",
    "td3_bc+iql+action_gradient",
    "iql+sarsa_iqn+best_of_n",
    "cql+cql+action_gradient",
    "reinformer+iql+action_gradient",
    "asp+sarsa_iqn+closed_form_deterministic",
)
SENTENCES = (
    "put the red cube on the blue cube",
    "put the blue cube on the red cube",
    "open the drawer",
    "push the red cube left",
)


def cases(methods: list[str]) -> list[str]:
    """METHOD@WORLD for each method, and for those that belong elsewhere, too."""
    usual = [f"{m}@{'play' if m in PLAY else 'maze2d'}" for m in methods]
    usual += [f"{name}@maze2d" for name in COMPOSED]
    others = [f"{m}@{world}" for world, found in ELSEWHERE.items() for m in found]
    return usual + others


def arrays(world: World, seed: int) -> dict[str, np.ndarray]:
    """Rows of random walks; the reward falls with the distance from the origin.

    Every third episode ends the MDP, the others are cut.
    """
    rng = np.random.default_rng(seed)
    spec, (episodes, length) = world.spec, world.episodes
    low, high = np.array(spec["action_low"]), np.array(spec["action_high"])
    shape = (episodes, length + 1, spec["observation_dim"])
    walks = rng.normal(size=(episodes, 1, shape[2])) + np.cumsum(
        0.1 * rng.normal(size=shape), axis=1
    )
    actions = rng.uniform(0.95 * low, 0.95 * high, (episodes, length, len(low)))
    if spec["domain"] == "budget":  # shares of a budget, and the time that is left
        actions = rng.dirichlet(np.full(length, 2.0), episodes)[..., None]
        walks[..., 0] = 1 - np.arange(length + 1) / length
    ends = np.zeros((2, episodes, length), bool)
    over = np.arange(episodes) % 3 == 0
    ends[0, over, -1] = ends[1, ~over, -1] = True
    rewards = np.exp(-np.abs(walks[:, 1:]).mean(-1))
    return {
        "observations": walks[:, :-1].reshape(-1, shape[2]).astype(np.float32),
        "actions": actions.reshape(-1, len(low)).astype(np.float32),
        "rewards": rewards.reshape(-1).astype(np.float32),
        "terminals": ends[0].reshape(-1),
        "timeouts": ends[1].reshape(-1),
        "next_observations": walks[:, 1:].reshape(-1, shape[2]).astype(np.float32),
    }


# --- adapters: all that a checkout is asked for ---------------------------------------


def methods() -> list[str]:
    """Names of all methods."""
    try:
        module = importlib.import_module("offjax.methods")
        return list(module.METHODS)
    except ModuleNotFoundError:
        return list(importlib.import_module("offjax.recipes").RECIPES)


def final_states(run: Any) -> dict[str, Any]:
    """Stage → its final state, leaves [seeds, ...]."""
    if hasattr(run, "states"):
        return dict(run.states)
    return {stage.stage.name: stage.states for stage in run.trainer.stages}


@functools.cache
def dataset(name: str) -> Any:
    """The world's data, annotated where they are play."""
    import offjax
    from offjax.types import EnvSpec

    world = WORLDS[name]
    spec = EnvSpec(**world.spec)
    rows = arrays(world, seed=len(name))
    found = offjax.Dataset.from_arrays(**rows, spec=spec, id=world.name or f"g/{name}")
    if spec.domain != "scene":
        return found
    from offjax.datasets.language import Annotations, annotate

    starts = np.arange(0, len(found), 60)
    ends = starts + 60 - 5 * (np.arange(len(starts)) % 4)
    which = np.arange(len(starts)) % len(SENTENCES)
    return annotate(
        found, Annotations(starts, ends, which, which, SENTENCES, SENTENCES)
    )


def task(method: str, world: str) -> Any:
    """An episode's task: states to go through, or a sentence."""
    try:
        from offjax.datasets.text import encode
    except ModuleNotFoundError:
        from offjax.networks.language import encode  # type: ignore[no-redef]

    if world not in ("play", "cubes"):
        return None
    if method == "gcbc_goal":
        return {"goals": dataset(world).observations[:40]}
    text = encode(SENTENCES[:1], "hash_order" if world == "cubes" else "hash")
    return {name: np.asarray(x[0]) for name, x in text._asdict().items()}


def actions(run: Any, method: str, world: str) -> dict[str, np.ndarray]:
    """Each seed's actions on recorded observations."""
    data, found = dataset(world), {}
    for seed in range(NUM_SEEDS):
        agent = run.agent(seed=seed)
        agent.reset(task(method, world))
        taken = [
            agent.act(data.observations[i], float(data.rewards[i]))
            for i in range(ACTIONS)
        ]
        found[f"acting/seed_{seed}"] = np.stack(taken)
    return found


def train(case: str, preset: str, num_steps: int, runs_dir: str) -> dict[str, Any]:
    """All that is compared of a case, by name."""
    import offjax

    method, world = case.split("@")
    run = offjax.train(
        offjax.recipe(method, preset=preset, num_steps=num_steps),
        dataset(world),
        num_seeds=NUM_SEEDS,
        eval_episodes=EPISODES,
        log_every=num_steps,
        checkpoint_every=num_steps,
        layout="map",
        reuse_stages=False,
        runs_dir=runs_dir,
        quiet=True,
    )
    found: dict[str, Any] = {}
    for stage, state in final_states(run).items():
        found |= {f"{stage}/{path}": leaf for path, leaf in leaves(state).items()}
    if not WORLDS[world].evaluated:
        return found | actions(run, method, world)
    scores = offjax.evaluate(run, episodes=EPISODES)
    return found | {
        "evaluation/returns": scores.returns,
        "evaluation/lengths": scores.lengths,
    }


# --------------------------------------------------------------------------------------


def leaves(tree: Any) -> dict[str, np.ndarray]:
    """Path, such as `actor.params.Dense_0.kernel`, → leaf."""
    import jax

    def name(entry: Any) -> str:
        for attribute in ("name", "key", "idx"):
            if hasattr(entry, attribute):
                return str(getattr(entry, attribute))
        return str(entry)

    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {".".join(map(name, path)): np.asarray(leaf) for path, leaf in found}


def work(folder: Path, names: list[str], preset: str, num_steps: int) -> None:
    """Trains the cases one after the other, and writes each when it is done."""
    sys.modules["ogbench"] = None  # type: ignore[assignment]  # no simulated scenes
    for case in names:
        begin, steps = (
            time.perf_counter(),
            num_steps or NUM_STEPS.get(case.split("@")[0], FEW),
        )
        try:
            with tempfile.TemporaryDirectory() as runs:
                found = train(case, preset, steps, runs)
            partial = folder / f"{case}.{os.getpid()}.part.npz"
            np.savez(partial, **found)
            partial.rename(folder / f"{case}.npz")
        except Exception:
            (folder / f"{case}.error").write_text(traceback.format_exc())
        print(f"{case} {time.perf_counter() - begin:.1f} s", flush=True)


def main(arguments: list[str]) -> None:
    """See the module."""
    import offjax

    code = os.environ["PYTHONPATH"]
    if not Path(offjax.__file__).is_relative_to(code):
        sys.exit(f"offjax was imported from {offjax.__file__}, not from {code}.")
    command, place, *rest = arguments
    if command == "list":
        Path(place).write_text(json.dumps(methods()))
    else:
        preset, num_steps, *names = rest
        work(Path(place), names, preset, int(num_steps))


if __name__ == "__main__":
    main(sys.argv[1:])
