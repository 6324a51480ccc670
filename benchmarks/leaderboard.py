"""Times the leaderboard on a store of synthetic runs.

    python -m benchmarks.leaderboard [--methods=20] [--json=FILE]

makes 2,000 runs (20 methods × 20 datasets × 5 runs, 10 seeds, 50 evaluations) and
prints the seconds from folders to table and to page, the page's size, and those of
a bootstrap of 50,000 replicates.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from offjax.cli import command as cli
from offjax.leaderboard import board, page, reported, statistics, store, tables


def write_run(
    root: Path,
    method: str = "bc",
    dataset: str = "offjax/maze2d/umaze-v0",
    *,
    run_id: str = "20250101-000000-0123abcd",
    seeds: Sequence[int] = (0, 1, 2),
    scores: np.ndarray | None = None,
    variants: Sequence[str] = ("default",),
    config: dict[str, Any] | None = None,
    info: dict[str, Any] | None = None,
    eval_every: int = 1000,
    episodes: np.ndarray | None = None,
) -> Path:
    """Writes a run folder like the runner's, without its checkpoints.

    Args:
      root: the runs folder.
      method: name of the recipe.
      dataset: id of the dataset.
      run_id: name of the folder.
      seeds: the seeds' numbers.
      scores: [seeds, evaluations], the same for all variants; drawn if None.
      variants: the variants that are scored.
      config: entries that replace those of config.json.
      info: entries that replace those of run.json.
      eval_every: updates between evaluations.
      episodes: [seeds, evaluations, episodes] returns, in place of `scores`, which are
        their means.

    Returns:
      The run folder.
    """
    if episodes is not None:
        scores = episodes.mean(2)
    elif scores is None:
        scores = learning_curves(len(seeds), 5, np.random.default_rng(0))
    folder = root / method / dataset / run_id
    folder.mkdir(parents=True)
    steps = eval_every * np.arange(1, scores.shape[1] + 1)
    stage = {"lr": 3e-4, "batch_size": 256, "hidden_dims": [256, 256]}
    written_config = {
        "schema": 1, "method": method, "dataset": dataset, "preset": "paper",
        "seeds": list(seeds), "improve": None, "overrides": {},
        "stages": {"policy": {"algorithm": method, "num_steps": int(steps[-1]),
                              "config": stage}},
    }  # fmt: skip
    written_info = {
        "schema": 1, "status": "finished", "variants": list(variants),
        "versions": {"offjax": "0.1.0", "jax": "0.10.2", "python": "3.11.2"},
        "devices": {"platform": "cpu", "count": 2, "kind": "cpu"},
        "seed_layout": "map", "commit": "0123456789abcdef0123456789abcdef01234567",
        "dataset": {"id": dataset, "identity": "f00d", "rows": 1000, "episodes": 10},
        "start": "2025-01-01T00:00:00+00:00", "duration_seconds": 61.5,
        "seed_steps_per_second": 1234.5, "compile_seconds": 2.5,
        "evaluation_seconds": 3.5, "diverged": [], "config_hash": run_id[-8:],
        "total_steps": int(steps[-1]), "score_source": "synthetic",
    }  # fmt: skip
    write_json(folder / "config.json", {**written_config, **(config or {})})
    write_json(folder / "run.json", {**written_info, **(info or {})})
    head = "method,variant,dataset,seed,step,episodes,return_mean,return_std,score"
    if episodes is None:
        episodes = scores[:, :, None]
    number = episodes.shape[2]
    keys = [
        (variant, seed, step, scores[i, j].item(), episodes[i, j].tolist())
        for variant in variants
        for j, step in enumerate(steps.tolist())
        for i, seed in enumerate(seeds)
    ]
    write_csv(
        folder / "scores.csv",
        head,
        ((method, v, dataset, s, step, number, x, 0.0, x) for v, s, step, x, _ in keys),
    )
    write_csv(
        folder / "episodes.csv",
        "variant,seed,step,episode,return,length",
        (
            (v, s, step, i, x, 50)
            for v, s, step, _, returns in keys
            for i, x in enumerate(returns)
        ),
    )
    return folder


def write_csv(path: Path, head: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Writes a CSV file with its head."""
    with path.open("w", newline="") as file:
        file.write(head + "\n")
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes an object as JSON."""
    path.write_text(json.dumps(content, indent=2))


def learning_curves(
    seeds: int, evaluations: int, rng: np.random.Generator, level: float = 60.0
) -> np.ndarray:
    """Rising noisy scores, [seeds, evaluations]."""
    rise = level * (1 - np.exp(-4 * np.arange(1, evaluations + 1) / evaluations))
    seed_noise = rng.normal(0, 6, (seeds, 1))
    return np.round(rise + seed_noise + rng.normal(0, 3, (seeds, evaluations)), 4)


DATASETS = [
    "offjax/maze2d/umaze-v0",
    "offjax/maze2d/medium-v0",
    "offjax/maze2d/large-v0",
    "offjax/hopper/medium-v0",
] + [
    f"offjax/budget/t{horizon}-{data}-v0"
    for horizon in (10, 20, 50, 100)
    for data in ("random", "smooth", "expert", "mixed")
]


def write_store(
    root: Path, methods: int = 20, datasets: int = 20, runs: int = 5
) -> int:
    """Writes `methods` × `datasets` × `runs` runs; returns their number."""
    rng = np.random.default_rng(0)
    for i in range(methods):
        for dataset in DATASETS[:datasets]:
            level = rng.uniform(20, 100)
            for run in range(runs):
                write_run(
                    root,
                    f"method{i}",
                    dataset,
                    run_id=f"202501{run + 1:02d}-000000-{rng.integers(2**32):08x}",
                    seeds=range(10 * run, 10 * (run + 1)),
                    scores=learning_curves(10, 50, rng, level),
                )
    return methods * datasets * runs


def measure(root: Path, out: Path) -> dict[str, float]:
    """Seconds of every step from run folders to page, and the page's megabytes."""
    seconds = {}
    begin = time.perf_counter()
    found = store.read([root])
    "\n".join(tables.plain_lines(board.build(found)))
    seconds["table"] = time.perf_counter() - begin
    statistics.draw_counts.cache_clear()
    begin = time.perf_counter()
    page.write(out, page.render(store.read([root]), reported.load()))
    seconds["page"] = time.perf_counter() - begin
    seconds["page_megabytes"] = out.stat().st_size / 1e6
    return seconds


def measure_bootstrap(replicates: int = 50_000) -> float:
    """Seconds for all metrics of 10 methods × 10 seeds × 9 tasks with intervals."""
    rng = np.random.default_rng(0)
    methods = [[rng.normal(50, 20, 10) for _ in range(9)] for _ in range(10)]
    statistics.draw_counts.cache_clear()
    begin = time.perf_counter()
    for scores in methods:
        statistics.intervals(scores, replicates)
    return time.perf_counter() - begin


def main(argv: list[str]) -> None:
    """Prints all measurements, and writes them."""
    del argv
    from benchmarks.harness import opening, write

    result: dict[str, Any] = {"machine": opening()}
    result["bootstrap_seconds"] = measure_bootstrap()
    print(f"bootstrap of 50,000 replicates: {result['bootstrap_seconds']:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        number = write_store(root, flags.FLAGS.methods)
        print(f"{number} runs:")
        found = measure(root, Path(folder) / "page.html")
        for name, value in found.items():
            print(f"  {name}: {value:.2f}")
    write(flags.FLAGS.json, result | {"runs": number} | found)


if __name__ == "__main__":
    flags.DEFINE_integer("methods", 20, "Methods, each with 100 runs.", 1)
    flags.DEFINE_string("json", None, "File for the numbers.")
    cli.run(main)
