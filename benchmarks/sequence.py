"""Rates of sequence models: training beside a plain PyTorch loop, and evaluation.

    python -m benchmarks.sequence [--torch_python=/path/to/python] [--json=FILE]

Training: Decision Transformer's seed-updates per second at batch 64, K = 20, 3 layers,
width 128, dropout 0.1, sampling included, on random data of maze2d's shape, for one
seed and for --train_seeds of them (as many as cores). Beside it the same update in
PyTorch (benchmarks/peers/decision_transformer.py), run by an interpreter that has
torch: as one process with all threads, and as one process per core (on a GPU: as
--peer_processes that share it). All take turns, so that they see the same machine; the
best of --rounds counts. Evaluation: 10 seeds × 100 episodes of 300 steps in maze2d's
umaze, in one program, with a small Decision Transformer.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import processes
from benchmarks.harness import opening, write
from offjax.cli import command as cli
from offjax.datasets.trajectories import SegmentView, Trajectories
from offjax.methods import decision_transformer
from offjax.types import Statistics

FLAGS = flags.FLAGS
Result = dict[str, Any]
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
        last_timestep=np.int32(LENGTH - 1),
        statistics=Statistics(
            np.zeros(OBSERVATION, np.float32),
            np.ones(OBSERVATION, np.float32),
            -np.ones(ACTION, np.float32),
            np.ones(ACTION, np.float32),
        ),
    )


class Training:
    """Decision Transformer at the size of the comparison, for several seeds."""

    def __init__(self, seeds: int) -> None:
        from offjax.devices.layout import Program, choose_layout

        config, view = decision_transformer.Config(batch_size=64), SegmentView()
        layout, data = choose_layout(seeds), random_data()
        self._layout, self._seeds = layout, seeds

        def init(slot: Any, shared: Any) -> Any:
            key = jax.random.PRNGKey(slot["seed"])
            return decision_transformer.init(key, shared["data"], config, {})

        def chunk(slot: Any, shared: Any) -> Any:
            def body(_: Any, state: Any) -> Any:
                key = jax.random.fold_in(state.key, state.step)
                batch = view.sample(shared["data"], key, config)
                return decision_transformer.update(state, batch, config, {})[0]

            return jax.lax.fori_loop(0, shared["updates"], body, slot["state"])

        self._shared = {"data": layout.replicate(data)}
        numbers = layout.shard({"seed": np.arange(seeds, dtype=np.uint32)})
        self._state = Program(init, layout)(numbers, self._shared)
        self._chunk = Program(chunk, layout)
        self.rate(1)

    def rate(self, updates: int) -> float:
        """Seed-updates per second of that many updates of every seed."""
        number = self._layout.replicate({"updates": np.int32(updates)})
        begin = time.perf_counter()
        self._state = self._chunk({"state": self._state}, self._shared | number)
        jax.block_until_ready(self._state)
        return self._seeds * updates / (time.perf_counter() - begin)


def training(updates: int, rounds: int, seeds: int, python: str | None) -> Result:
    """Seed-updates per second, each the best of several rounds in turns.

    "ratio" is that of one seed to one process, and that of `seeds` to several.
    """
    names = {f"{number} seeds": Training(number) for number in sorted({1, seeds})}
    found: dict[str, list[float]] = {}
    peer = [python or "", str(PEER), str(updates)]
    for _ in range(rounds):
        turn = {name: mine.rate(updates) for name, mine in names.items()}
        if python:
            timed = processes.rates(peer, updates, FLAGS.peer_processes)
            turn |= {f"PyTorch, {how}": rate for how, rate in timed.items()}
        for name, rate in turn.items():
            found.setdefault(name, []).append(rate)
    result: Result = {name: max(rates) for name, rates in found.items()}
    if not python:
        return result | {"PyTorch": "not measured: --torch_python was not given"}
    one, many = [result[name] for name in result if name.startswith("PyTorch")]
    ratio = {
        "1 seed, one process": result["1 seeds"] / one,
        f"{seeds} seeds, several": result[f"{seeds} seeds"] / many,
    }
    return result | {"ratio": ratio}


def evaluation(seeds: int, episodes: int) -> Result:
    """Steps per second of full episodes of all seeds, in one program."""
    from offjax import envs
    from offjax.devices.layout import choose_layout
    from offjax.envs import maze2d
    from offjax.evaluation.rollout import Agent, evaluate_slot
    from offjax.methods import build
    from offjax.runner.programs import Program, stack_configs
    from offjax.types import Model, Params

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
    evaluate = evaluate_slot(Agent.of(recipe), envs.make(spec), spec, episodes)
    layout = choose_layout(seeds)

    def one(slot: Any, shared: Any) -> Any:
        model = Model(stage.method, slot["config"], slot["state"])
        params = Params({stage.name: model}, recipe.acting)
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
    from offjax.devices.layout import prepare_host_devices

    prepare_host_devices(None)
    seeds = FLAGS.train_seeds or len(processes.available_cores())
    python = FLAGS.torch_python
    result: Result = {"machine": opening()}
    result["training"] = training(FLAGS.updates, FLAGS.rounds, seeds, python)
    result["evaluation"] = evaluation(FLAGS.seeds, FLAGS.episodes)
    for section in ("training", "evaluation"):
        for name, value in result[section].items():
            number = f"{value:14,.2f}" if isinstance(value, float) else f"  {value}"
            print(f"{section:12}{name:28}{number}")
    write(FLAGS.json, result)


if __name__ == "__main__":
    flags.DEFINE_integer("updates", 20, "Updates of a round.", 1)
    flags.DEFINE_integer("rounds", 3, "Rounds, of which the best counts.", 1)
    flags.DEFINE_integer("train_seeds", 0, "Seeds that train; 0: one for each core.", 0)
    flags.DEFINE_integer("seeds", 10, "Seeds that are evaluated.", 1)
    flags.DEFINE_integer("episodes", 100, "Episodes per seed.", 1)
    flags.DEFINE_integer("peer_processes", 4, "Of a peer, on one accelerator.", 1)
    flags.DEFINE_string("torch_python", None, "Interpreter that has torch.")
    flags.DEFINE_string("json", None, "File for the results.")
    cli.run(main)
