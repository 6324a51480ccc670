"""EnvPool's steps with the policies of benchmarks/evaluation.py, in NumPy.

python benchmarks/peers/envpool_steps.py ROBOT SEEDS EPISODES STEPS THREADS

ROBOT is hopper, halfcheetah, walker2d or ant, of version 5. SEEDS × EPISODES
environments take STEPS steps each; a seed's episodes share its policy. Falls do not end
an episode. It waits for a line, and prints "cpu" and the seconds (timing.py).
"""

from __future__ import annotations

import itertools
import sys

import envpool
import numpy as np
from timing import report

NAMES = {
    "hopper": "Hopper",
    "halfcheetah": "HalfCheetah",
    "walker2d": "Walker2d",
    "ant": "Ant",
}
WIDTH = 256


def main(robot: str, seeds: int, episodes: int, steps: int, threads: int) -> None:
    """Times so many steps of every environment."""
    falls = {} if robot == "halfcheetah" else {"terminate_when_unhealthy": False}
    env = envpool.make_gymnasium(
        f"{NAMES[robot]}-v5", num_envs=seeds * episodes, num_threads=threads, **falls
    )
    rng = np.random.default_rng(0)
    sizes = (env.observation_space.shape[0], WIDTH, WIDTH, env.action_space.shape[0])
    first, second, last = (
        rng.normal(0, m**-0.5, (seeds, m, n)).astype(np.float32)
        for m, n in itertools.pairwise(sizes)
    )

    def act(observations: np.ndarray) -> np.ndarray:
        hidden = observations.astype(np.float32).reshape(seeds, episodes, -1)
        hidden = np.maximum(hidden @ first, 0)
        hidden = np.maximum(hidden @ second, 0)
        return np.tanh(hidden @ last).reshape(seeds * episodes, -1).astype(np.float64)

    def run(count: int) -> None:
        observations, _ = env.reset()
        for _ in range(count):
            observations, *_ = env.step(act(observations))

    run(2)
    report(lambda: run(steps), "cpu")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
