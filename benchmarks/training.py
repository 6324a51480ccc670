"""Training throughput on this machine: seed-steps per second, and what limits them.

    python -m benchmarks.training [--sections=throughput,seeds,…] [--algorithms=td3_bc]
        [--algorithms=cfpi:bc,cfpi:sarsa,decision_transformer,lcd:planner]
        [--torch_python=/path/to/python] [--projects=corl:PATH,jax_corl:PATH]
        [--json=FILE]

A seed-step is one update of one seed's critics (BC: of its policy) on 256 rows, at
preset `paper`'s sizes and HalfCheetah's shapes, sampling included; TD3+BC's policy
takes every second, IQL reads V as CORL does (`PEERS_STEP`). Programs are those of
`experiments.run`. Sections:

    throughput  8 seeds of each algorithm; share of the float32 GEMM peak that is
                measured in the same turn; beside it our PyTorch loops
                (benchmarks/peers/value_based.py), as one process with all threads and
                as one process per core (on a GPU: as one, and as --peer_processes that
                share it), and public projects' own files
    seeds       1 … 256 seeds of each algorithm
    ceiling     64 seeds of layers of 8 on 8 rows: the overhead of everything else;
                beside it JAX-CORL's, where its checkout is given
    rows        10,000 against 1,000,000 rows of data
    devices     one device against all
    sweep       16 values of a scalar against 16 seeds, and how often it was compiled
    memory      bytes of a seed's state

--algorithms may name stages of methods; --preset=small gives its sizes in place of the
published ones, without peers.

Peers and we take turns, `--rounds` of them; medians, with ranges.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from benchmarks import processes
from offjax.cli import command as cli
from offjax.errors import UserError

FLAGS = flags.FLAGS
TINY = {"hidden_dims": ((8, 8),), "batch_size": (8,)}
LEAST = 20
"""Updates of a timing, however long they take: a chunk moves all states once, and a
run's chunks are of hundreds."""
PEERS_STEP = {"iql": {"stale_value": (True,)}}
"""Settings with which an update is CORL's, which our PyTorch loops follow."""
Result = dict[str, Any]


def throughput() -> Result:
    """Every algorithm beside its peers."""
    from benchmarks.harness import Rate, Training, peak

    result: Result = {}
    for algorithm in FLAGS.algorithms:
        step = PEERS_STEP.get(algorithm)
        mine = Training(algorithm, FLAGS.num_seeds, overrides=step, preset=FLAGS.preset)
        updates = mine.updates_in(FLAGS.seconds)
        cores = len(processes.available_cores())
        alone = FLAGS.peer_updates or max(
            10, int(mine.rate(updates) / cores * FLAGS.seconds / 2)
        )
        projects = FLAGS.torch_python, FLAGS.projects
        published = FLAGS.preset == "paper"
        others = processes.peers(algorithm, alone, *projects) if published else {}
        rates: dict[str, list[float]] = {"offjax": []}
        for _ in range(FLAGS.rounds):
            limit = peak()
            rate = mine.rate(updates)
            rates["offjax"].append(rate)
            if (share := mine.share(rate, limit)) is not None:
                rates.setdefault("share of peak", []).append(share)
            for name, command in others.items():
                timed = processes.rates(command, alone, FLAGS.peer_processes)
                for how, value in timed.items():
                    rates.setdefault(f"{name}, {how}", []).append(value)
        found = {name: Rate.of(values) for name, values in rates.items()}
        result[algorithm] = {name: rate._asdict() for name, rate in found.items()}
        result[algorithm]["megaflops of a seed-step"] = (
            None if mine.flops is None else mine.flops / 1e6
        )
        result[algorithm]["compile seconds"] = mine.compile_seconds
        for name, each in found.items():
            ratio = found["offjax"].median / each.median
            more = "" if name in ("offjax", "share of peak") else f"  {ratio:.2f} ×"
            print(f"{algorithm:8} {name:28} {each.median:10,.2f} "
                  f"[{each.low:,.2f}, {each.high:,.2f}]{more}", flush=True)  # fmt: skip
    return result


def _rate(*args: Any, **options: Any) -> tuple[float, Any]:
    """Best seed-steps per second of a training, and the training."""
    from benchmarks.harness import Training

    training = Training(*args, **{"preset": FLAGS.preset, **options})
    updates = max(LEAST, training.updates_in(FLAGS.seconds))
    return max(training.rate(updates) for _ in range(FLAGS.rounds)), training


def seeds() -> Result:
    """Every algorithm over numbers of seeds; share of the peak of the same turn."""
    from benchmarks.harness import peak

    result: Result = {}
    for algorithm in FLAGS.algorithms:
        found = result[algorithm] = {}
        for number in FLAGS.seed_counts:
            limit = peak()
            rate, training = _rate(algorithm, int(number))
            share = training.share(rate, limit)
            found[number] = {
                "rate": rate, "layout": training.layout, "share of peak": share
            }  # fmt: skip
            of_peak = "unknown share" if share is None else f"{share:.0%}"
            print(f"{algorithm} {number:>4} seeds {rate:10,.0f} "
                  f"({training.layout}, {of_peak} of peak)", flush=True)  # fmt: skip
    return result


def ceiling() -> Result:
    """Seed-steps per second when there is next to nothing to multiply."""
    result = {}
    for layout in ("map", "vmap"):
        rate, _ = _rate("td3_bc", 64, overrides=TINY, layout=layout)
        result[layout] = rate
        print(f"ceiling, 64 seeds, {layout}: {rate:,.0f}", flush=True)
    for entry in FLAGS.projects:
        name, _, path = entry.partition(":")
        if name == "jax_corl":
            script = str(processes.PEERS / "projects.py")
            command = [sys.executable, script, "jax_corl_tiny", path, "20000"]
            timed = processes.rates(command, 20_000, FLAGS.peer_processes)
            for how, rate in timed.items():
                result[f"JAX-CORL, {how}"] = rate
                print(f"ceiling, JAX-CORL, {how}: {rate:,.0f}", flush=True)
    return result


def rows() -> Result:
    """The same training on few and on many rows."""
    few, _ = _rate(FLAGS.algorithms[0], 2, rows=10_000)
    many, _ = _rate(FLAGS.algorithms[0], 2, rows=1_000_000)
    print(f"10,000 rows {few:,.0f}, 1,000,000 rows {many:,.0f}: {few / many:.3f} ×")
    return {"10000": few, "1000000": many, "ratio": few / many}


def devices() -> Result:
    """The same training on one device and on all."""
    one, _ = _rate(FLAGS.algorithms[0], FLAGS.num_seeds, max_devices=1)
    every, _ = _rate(FLAGS.algorithms[0], FLAGS.num_seeds)
    print(f"1 device {one:,.0f}, all {every:,.0f}: {every / one:.2f} ×")
    return {"one": one, "all": every, "ratio": every / one}


def sweep() -> Result:
    """Sixteen values of a traced setting beside sixteen seeds."""
    values = tuple(1.0 + 0.1 * i for i in range(16))
    swept, training = _rate("td3_bc", 1, overrides={"alpha": values})
    seeded, _ = _rate("td3_bc", 16)
    print(f"16 values of alpha: {training.compilations} compilation, "
          f"{seeded / swept:.3f} × the time of 16 seeds")  # fmt: skip
    return {"compilations": training.compilations, "ratio": seeded / swept}


def memory() -> Result:
    """Bytes of a seed's state."""
    from benchmarks.harness import Training

    result = {}
    for algorithm in FLAGS.algorithms:
        training = Training(algorithm, 1, rows=1000, preset=FLAGS.preset)
        result[algorithm] = training.bytes_per_seed
        print(f"{algorithm}: {result[algorithm] / 1e6:.2f} MB per seed", flush=True)
    return result


SECTIONS: dict[str, Callable[[], Result]] = {
    "throughput": throughput,
    "seeds": seeds,
    "ceiling": ceiling,
    "rows": rows,
    "devices": devices,
    "sweep": sweep,
    "memory": memory,
}


def main(argv: list[str]) -> None:
    """Runs the sections that were asked for."""
    del argv
    from offjax.devices.layout import prepare_host_devices

    for name in FLAGS.sections:
        if name not in SECTIONS:
            raise UserError(f"There is no section {name!r}: {', '.join(SECTIONS)}.")
    prepare_host_devices(None)
    from benchmarks.harness import opening, write

    result: Result = {"machine": opening()}
    for name in FLAGS.sections:
        result[name] = SECTIONS[name]()
    write(FLAGS.json, result)


if __name__ == "__main__":
    flags.DEFINE_list("sections", [*SECTIONS], "What to measure.")
    flags.DEFINE_list(
        "algorithms", [*processes.IN_PYTORCH], "Methods, or METHOD:STAGE."
    )
    cli.define_preset("paper")
    flags.DEFINE_integer("num_seeds", 8, "Seeds of the throughput.")
    flags.DEFINE_list("seed_counts", ["1", "2", "4", "8", "16", "64", "256"], "Seeds.")
    flags.DEFINE_float("seconds", 2.0, "Length of a timing.")
    flags.DEFINE_integer("rounds", 5, "Turns.")
    flags.DEFINE_string("torch_python", None, "Interpreter that has torch.")
    flags.DEFINE_integer("peer_processes", 4, "Of a peer, on one accelerator.", 1)
    flags.DEFINE_integer("peer_updates", 0, "Of a peer's process; 0: by our rate.", 0)
    flags.DEFINE_list("projects", [], "Public projects' checkouts: NAME:FOLDER.")
    flags.DEFINE_string("json", None, "File for the results.")
    cli.run(main)
