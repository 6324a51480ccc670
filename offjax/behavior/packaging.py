"""Which snapshots of a training become behavior policies, and their files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from offjax.behavior import ant_goal, policies, rerun, training
from offjax.errors import UserError

MEDIUM_SCORES = {"halfcheetah": 42.0, "hopper": 44.0, "walker2d": 62.0, "ant": 50.0}
"""Robot → score that its medium policy should have; others have no medium policy.

The first three are about those of D4RL's own, Ant's is half of its expert reference.
"""
MARGIN = 8.0
"""Distance from this score within which a medium policy counts as one."""
NUM_CANDIDATES = 5  # snapshots that are judged anew for each role
EPISODES = 20
CHOICE_SEED = 15 * 10**8  # of the episodes that choose among the candidates
REPORT_SEED = 2 * 10**9  # of those that the tables report


def best(steps: np.ndarray, scores: np.ndarray) -> int:
    """The best snapshot of a training's second half; arguments as in `candidates`."""
    return candidates(steps, scores, None)["expert"][0]


def candidates(
    steps: np.ndarray, scores: np.ndarray, medium: float | None
) -> dict[str, list[int]]:
    """Role → snapshots that are judged anew for it, the most promising first.

    Experts are the best of the second half of the training. Medium policies are those
    whose scores are nearest to `medium`, of the snapshots up to the first that lies
    above it by `MARGIN`: what comes later has been better and got worse again.

    Args:
      steps: environment steps of the snapshots, ascending, [S].
      scores: their scores, [S].
      medium: score of a medium policy; None if there shall be none.
    """
    late = np.flatnonzero(steps >= steps[-1] / 2)
    best = late[np.argsort(-scores[late], kind="stable")]
    roles = {"expert": best[:NUM_CANDIDATES].tolist()}
    if medium is not None:
        above = np.flatnonzero(scores >= medium + MARGIN)
        early = np.arange(above[0] + 1 if above.size else len(scores))
        nearest = early[np.argsort(np.abs(scores[early] - medium), kind="stable")]
        roles["medium"] = nearest[:NUM_CANDIDATES].tolist()
    return roles


def choose(
    steps: np.ndarray,
    scores: np.ndarray,
    medium: float | None,
    rescore: Callable[[int], float],
) -> dict[str, int]:
    """Role → snapshot, of the `candidates` as `rescore` scores them anew."""
    roles = candidates(steps, scores, medium)
    judged = {
        role: np.array([rescore(i) for i in indices]) for role, indices in roles.items()
    }
    chosen = {"expert": roles["expert"][int(np.argmax(judged["expert"]))]}
    if medium is not None:
        nearest = int(np.argmin(np.abs(judged["medium"] - medium)))
        chosen["medium"] = roles["medium"][nearest]
    return chosen


def package(
    plan: training.Plan,
    folder: Path,
    target: Path,
    command: str,
    episodes: int = EPISODES,
) -> list[dict[str, Any]]:
    """Writes the chosen policies and where they come from.

    Candidates are scored anew as they are stored (weights in float16), and once more
    in other episodes for the table. The files are `<robot>.npz` (policies), `.csv`
    (provenance), `.json` (how to run the training again) and `_curve.csv` (scores of
    all snapshots). The ant of AntMaze has one policy, the best by the scores of its
    training, and no `.json`, since no dataset is a replay of its training.

    Args:
      plan: of the training in `folder`.
      folder: where it was run.
      target: folder of the files.
      command: what trained them, for the table.
      episodes: deterministic episodes per policy.

    Returns:
      The rows of the provenance.
    """
    robot = plan.robot
    rows = training.read_table(folder / training.SNAPSHOTS)
    if len(rows) < 2:
        raise UserError(
            f"The training in {folder} has {len(rows)} snapshots: policies are chosen "
            "from two or more. Train with more --num_steps or --num_snapshots."
        )
    spec = policies.spec(robot)
    env = training.environments(robot, episodes, scored=True)

    def snapshot(name: str) -> policies.Actor:
        return policies.load(folder / "snapshots" / f"{name}.npz")[name]

    def judge(index: int, seed: int) -> np.ndarray:
        actor = snapshot(rows[index]["snapshot"])
        return policies.evaluate(actor, env, spec.horizon, seed)

    steps = np.array([int(row["env_steps"]) for row in rows])
    scores = np.array([float(row["score"]) for row in rows])
    if robot == ant_goal.NAME:
        chosen = {"expert": best(steps, scores)}
    else:
        chosen = choose(
            steps,
            scores,
            MEDIUM_SCORES.get(robot),
            lambda index: float(spec.score(judge(index, CHOICE_SEED)).mean()),
        )
    table = [
        {
            "robot": robot,
            "snapshot": rows[index]["snapshot"],
            "roles": " ".join(role for role in chosen if chosen[role] == index),
            "env_steps": rows[index]["env_steps"],
            "updates": rows[index]["updates"],
            **training.scores(spec, judge(index, REPORT_SEED)),
            "command": command,
        }
        for index in sorted(set(chosen.values()))
    ]
    actors = {row["snapshot"]: snapshot(row["snapshot"]) for row in table}
    policies.save(target / f"{robot}.npz", actors)
    training.write_table(target / f"{robot}.csv", table)
    if robot != ant_goal.NAME:
        rerun.save(target / f"{robot}.json", rerun.history(plan, folder))
    shutil.copyfile(folder / training.SNAPSHOTS, target / f"{robot}_curve.csv")
    return table
