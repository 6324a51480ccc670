"""Rates of sequence models: training beside a plain PyTorch loop, and evaluation.

    python -m benchmarks.sequence [--torch_python=/path/to/python] [--json=FILE]

Training: Decision Transformer's updates per second at batch 64, K = 20, 3 layers, width
128, dropout 0.1, sampling included, on random data of maze2d's shape. Beside it the
same update in PyTorch (benchmarks/peers/decision_transformer.py), run by an interpreter
that has torch, on as many threads as there are cores; the two take turns, so that both
see the same machine. Evaluation: 10 seeds × 100 episodes of 300 steps in maze2d's
umaze, in one program, with a small Decision Transformer.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.harness import machine
from experiments import cli
from offjax.algorithms import decision_transformer
from offjax.datasets.trajectories import Trajectories, sample
from offjax.types import Statistics

FLAGS = flags.FLAGS
EPISODES, LENGTH, OBSERVATION, ACTION = 100, 300, 4, 2
PEER = Path(__file__).parent / "peers" / "decision_transformer.py"


def random_data() -> Trajectories:
    """Episodes of maze2d's shape, of random numbers."""
    rng = np.random.default_rng(0)
    rows = EPISODES * LENGTH
    timesteps = np.tile(np.arange(LENGTH, dtype=np.int32), EPISODES)
    return Trajectories(
        observations=rng.normal(size=(rows, OBSERVATION)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(rows, ACTION)).astype(np.float32),
        returns=rng.uniform(size=rows).astype(np.float32),
        timesteps=timesteps,
        remaining=LENGTH - timesteps,
        starts=np.arange(EPISODES, dtype=np.int32) * LENGTH,
        lengths=np.full(EPISODES, LENGTH, np.int32),
        return_scale=np.float32(1.0),
        statistics=Statistics(
            np.zeros(OBSERVATION, np.float32),
            np.ones(OBSERVATION, np.float32),
            -np.ones(ACTION, np.float32),
            np.ones(ACTION, np.float32),
        ),
    )


class Training:
    """Decision Transformer at the size of the comparison."""

    def __init__(self) -> None:
        config = decision_transformer.Config(batch_size=64)
        data = jax.tree.map(jnp.asarray, random_data())
        self._data = data
        self._state = jax.jit(
            lambda data: decision_transformer.init(
                jax.random.PRNGKey(0), data, config, {}
            )
        )(data)

        def chunk(state: Any, data: Any, updates: Any) -> Any:
            def body(_: Any, state: Any) -> Any:
                key = jax.random.fold_in(state.key, state.step)
                batch = sample(data, key, 64, config.context_length, "length")
                return decision_transformer.update(state, batch, config, {})[0]

            return jax.lax.fori_loop(0, updates, body, state)

        self._chunk = jax.jit(chunk)
        self.seconds(1)

    def seconds(self, updates: int) -> float:
        """Time of that many updates."""
        begin = time.perf_counter()
        self._state = self._chunk(self._state, self._data, updates)
        jax.block_until_ready(self._state)
        return time.perf_counter() - begin


def peer_seconds(python: str, updates: int) -> float | str:
    """Time of that many updates in PyTorch, or why there is none."""
    threads = len(os.sched_getaffinity(0))
    command = [python, str(PEER), str(updates), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        return f"{python} does not exist"
    except subprocess.CalledProcessError as error:
        return error.stderr.strip().splitlines()[-1]
    return float(done.stdout.split()[-1])


def training(updates: int, rounds: int, python: str | None) -> dict[str, Any]:
    """Updates per second of both, the best of several rounds in turns."""
    mine = Training()
    own, peers = [], []
    for _ in range(rounds):
        own.append(mine.seconds(updates))
        if python:
            found = peer_seconds(python, updates)
            if isinstance(found, str):
                return {"updates_per_second": updates / min(own), "torch": found}
            peers.append(found)
    result: dict[str, Any] = {"updates_per_second": updates / min(own)}
    if not peers:
        return result | {"torch": "not measured: --torch_python was not given"}
    result["torch_updates_per_second"] = updates / min(peers)
    return result | {"ratio": min(peers) / min(own)}


def evaluation(seeds: int, episodes: int) -> dict[str, Any]:
    """Steps per second of full episodes of all seeds, in one program."""
    from offjax import envs
    from offjax.envs import maze2d
    from offjax.evaluation.rollout import Agent, evaluate_slot
    from offjax.recipes import build
    from offjax.runner.devices import choose_layout
    from offjax.runner.programs import Program, stack_configs
    from offjax.types import Params

    spec = maze2d.spec("umaze")
    recipe = build("decision_transformer", spec, "small")
    (stage,) = recipe.stages
    data = random_data()
    states = jax.jit(
        jax.vmap(
            lambda key: decision_transformer.init(key, data, stage.config, {}),
        )
    )(jax.vmap(jax.random.PRNGKey)(np.arange(seeds)))
    configs = stack_configs(stage.config, [{}] * seeds)
    agent = Agent(recipe.policy({stage.name: stage.config}), None, None)
    evaluate = evaluate_slot(agent, envs.make(spec), spec, episodes)
    layout = choose_layout(seeds)

    def one(slot: Any, shared: Any) -> Any:
        params = Params({stage.name: slot["state"]}, {stage.name: slot["config"]})
        return evaluate(params, jax.random.PRNGKey(slot["seed"] + shared["first"]))

    program = Program(one, layout)
    slots = layout.shard(
        {
            "state": jax.tree.map(np.asarray, states),
            "config": configs,
            "seed": np.arange(seeds, dtype=np.uint32),
        }
    )
    jax.block_until_ready(program(slots, layout.replicate({"first": np.uint32(0)})))
    begin = time.perf_counter()
    jax.block_until_ready(program(slots, layout.replicate({"first": np.uint32(99)})))
    seconds = time.perf_counter() - begin
    steps = seeds * episodes * spec.horizon
    return {
        "seeds": seeds,
        "episodes": episodes,
        "seconds": seconds,
        "steps_per_second": steps / seconds,
        "compile_seconds": program.compile_seconds,
        "programs": program.compilations,
    }


def main(argv: list[str]) -> None:
    """Prints both rates, and writes them where asked."""
    del argv
    from offjax.runner.devices import prepare_host_devices

    prepare_host_devices(None)
    result = {
        "machine": machine(),
        "training": training(FLAGS.updates, FLAGS.rounds, FLAGS.torch_python),
        "evaluation": evaluation(FLAGS.seeds, FLAGS.episodes),
    }
    print(json.dumps(result, indent=2))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("updates", 20, "Updates of a round.")
    flags.DEFINE_integer("rounds", 3, "Rounds, of which the best counts.")
    flags.DEFINE_integer("seeds", 10, "Seeds that are evaluated.")
    flags.DEFINE_integer("episodes", 100, "Episodes per seed.")
    flags.DEFINE_string("torch_python", None, "Interpreter that has torch.")
    flags.DEFINE_string("json", None, "File for the results.")
    cli.run(main)
