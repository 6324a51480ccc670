"""Trials of the scene benchmark, and what finished runs make of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.evaluation import scene
from offjax.evaluation.instructions import Outcome, shuffled
from offjax.leaderboard import store
from offjax.runner.records import SCHEMA, RunFolder, digest, write_json
from offjax.runner.run import load_run

REFERENCES = ("oracle", "random")
GIVEN_GOALS = ("gcbc_goal",)
"""Methods that pursue states of the recording: their trials begin in it."""


def plain(name: str, singles: int, chains: int) -> scene.Trials:
    """As an evaluation at the end of training."""
    return scene.trials(name, singles, chains)


def held_out(name: str, singles: int, chains: int) -> scene.Trials:
    """In sentences that training does not see."""
    del chains
    return scene.trials(name, singles, 0, held_out=True)


def compound(name: str, singles: int, chains: int) -> scene.Trials:
    """Several skills in a sentence."""
    del chains
    return scene.trials(name, singles, 0, compound=True)


def wrong_words(name: str, singles: int, chains: int) -> scene.Trials:
    """The plain single instructions in the words of others."""
    del chains
    return scene.Trials(shuffled(scene.trials(name, singles, 0).singles), [])


KINDS: dict[str, Callable[[str, int, int], scene.Trials]] = {
    "plain": plain,
    "held_out": held_out,
    "compound": compound,
    "shuffled": wrong_words,
}
"""Name → (scene, singles, chains) → trials."""


class Entry(NamedTuple):
    """A row of the table: one run."""

    label: str
    method: str
    folder: RunFolder
    seeds: tuple[int, ...]


def entries(runs_dir: str, dataset: str, methods: Sequence[str]) -> list[Entry]:
    """Finished runs on the dataset; of several with the same settings the newest.

    Raises:
      UserError: there is none.
    """
    found: dict[str, Entry] = {}
    for run in sorted(store.read([runs_dir]).runs, key=lambda run: run.start):
        if run.dataset != dataset or not run.finished or not run.curves:
            continue
        if methods and run.method not in (*methods, *REFERENCES):
            continue
        variant = run.curves[-1].variant
        label = run.method
        if run.config.get("overrides"):
            parts = variant.split(",")
            label += " " + ",".join(p for p in parts if not p.startswith("preset="))
        seeds = tuple(sorted({curve.seed for curve in run.curves}))
        found[label] = Entry(label, run.method, RunFolder(run.path), seeds)
    if not found:
        raise UserError(
            f"{runs_dir} holds no finished run on {dataset}: make some with "
            "python -m experiments.lcd.tables."
        )
    first = [found.pop(name) for name in REFERENCES if name in found]
    return first + list(found.values())


class Sizes(NamedTuple):
    """Numbers of trials of one seed."""

    singles: int
    chains: int


class Bench:
    """The trials of one dataset's scene, and what runs made of them."""

    def __init__(self, dataset: Dataset, sizes: Sizes, report: bool) -> None:
        assert dataset.spec is not None
        self.dataset, self.sizes, self.report = dataset, sizes, report
        self.scene: str = dict(dataset.spec.kwargs)["scene"]
        self._trials: dict[str, scene.Trials] = {}

    def trials(self, method: str, kind: str) -> scene.Trials | None:
        """Those of a method, made when first asked for; None where it has none."""
        if method in GIVEN_GOALS:
            if kind != "plain":
                return None
            return scene.Trials(scene.replayed(self.dataset, self.sizes.singles), [])
        if kind not in self._trials:
            self._trials[kind] = KINDS[kind](self.scene, *self.sizes)
        return self._trials[kind]

    def scores(self, entry: Entry, kind: str) -> scene.Scores | None:
        """What a run made of a kind of trials, or None where that is not known."""
        given = self.trials(entry.method, kind)
        if given is None:
            return None
        path = entry.folder.path / "trials" / f"{kind}-{self._size(given)}.npz"
        outcomes = _saved(path)
        if outcomes is None and kind == "plain":
            outcomes = _own(entry, given)
        if outcomes is None and not self.report:
            outcomes = self._measure(entry, given)
            _save(path, outcomes)
        if outcomes is None:
            return None
        return scene.scores(self.scene, given, *outcomes)

    @staticmethod
    def _size(given: scene.Trials) -> str:
        return f"{len(given.singles)}x{len(given.chains)}"

    def _measure(self, entry: Entry, given: scene.Trials) -> list[Outcome]:
        if entry.method in REFERENCES:
            oracle = entry.method == "oracle"
            found = scene.reference(self.scene, given, oracle=oracle)
        else:
            run = load_run(entry.folder.path, self.dataset)
            found = run.evaluator.follow(given, eval_seed=0)
        return [found.singles, found.chains]


def _saved(path: Path) -> list[Outcome] | None:
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return [
            Outcome(arrays[f"{which}_solved"], arrays[f"{which}_steps"])
            for which in scene.Trials._fields
        ]


def _save(path: Path, outcomes: Sequence[Outcome]) -> None:
    path.parent.mkdir(exist_ok=True)
    arrays = {
        f"{which}_{field}": value
        for which, outcome in zip(scene.Trials._fields, outcomes, strict=True)
        for field, value in outcome._asdict().items()
    }
    np.savez_compressed(path, **arrays)


def _own(entry: Entry, given: scene.Trials) -> list[Outcome] | None:
    """The run's last evaluation, where it was on as many trials."""
    with (entry.folder.path / "episodes.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    last = max((int(row["step"]) for row in rows), default=-1)
    rows = [row for row in rows if int(row["step"]) == last]
    count = len(given.singles) + len(given.chains)
    config = entry.folder.config
    asked = (config.get("eval_episodes"), config.get("eval_chains"))
    if asked != (len(given.singles), len(given.chains)) or config.get("eval_seed"):
        return None
    if len(rows) != count * len(entry.seeds):
        return None
    shape = (len(entry.seeds), count)
    rows.sort(key=lambda row: (int(row["seed"]), int(row["episode"])))
    solved = np.array([int(row["return"]) for row in rows]).reshape(shape)
    steps = np.array([int(row["length"]) for row in rows]).reshape(shape)
    cut = len(given.singles)
    return [
        Outcome(solved[:, :cut], steps[:, :cut]),
        Outcome(solved[:, cut:], steps[:, cut:]),
    ]


def add_references(bench: Bench, runs_dir: str) -> None:
    """Oracle and random actions as finished runs, where there are none yet."""
    for method in REFERENCES:
        dataset = bench.dataset.card.id
        if list((Path(runs_dir) / method / dataset).glob("*/run.json")):
            continue
        given = bench.trials(method, "plain")
        assert given is not None
        found = scene.reference(bench.scene, given, oracle=method == "oracle")
        config: dict[str, Any] = {
            "schema": SCHEMA,
            "method": method,
            "dataset": dataset,
            "preset": "reference",
            "eval_episodes": len(given.singles),
            "eval_chains": len(given.chains),
        }
        folder = RunFolder.create(Path(runs_dir), method, dataset, digest(config))
        (mine,) = found.results()
        score = (method, "default", dataset, 0, 0, *mine.score_columns())
        folder.append("scores.csv", [score])
        episodes = [("default", 0, 0, *columns) for columns in mine.episode_columns()]
        folder.append("episodes.csv", episodes)
        write_json(folder.path / "config.json", config)
        write_json(folder.path / "run.json", {"schema": SCHEMA, "status": "finished"})
        print(f"{method}: {100 * found.success[0]:.1f} % of the single instructions")
