"""Finished runs of the scene benchmark side by side, with its ceiling and floor.

    python -m experiments.lcd.compare --runs_dir=runs/lcd
        [--dataset=offjax/scene/play-v0] [--methods=lcd,gcbc] [--base=gcbc]
        [--kinds=plain,held_out,compound,shuffled] [--references] [--report]
        [--out=docs/results/lcd_scene]

Trials, the same for all methods, from starts drawn anew:

    plain     single instructions in wordings of the training, and chains of five; those
              that a run was evaluated on at its end, if they are as many
    held_out  single instructions in wordings that training did not see
    compound  two or three instructions in one sentence, with longer limits
    shuffled  every instruction in the words of another: a control

Outcomes go to trials/ in each run's folder, and are not measured again. --references
adds the scripted oracles and uniform actions, as runs of the methods `oracle` and
`random`, which the leaderboard shows, too. --report measures nothing.

Intervals (95 %) draw seeds and trials anew, crossed, which is up to √3 wider than
needed where outcomes have nothing in common; differences to --base are shown of runs
with the same seeds and trials alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from experiments.lcd import trials
from experiments.lcd.trials import GIVEN_GOALS, KINDS, REFERENCES, Bench, Entry, Sizes
from experiments.tables import write_csv
from offjax.catalog.load import load_dataset
from offjax.cli import command as cli
from offjax.envs.scene_instructions import all_instructions
from offjax.errors import UserError
from offjax.evaluation import scene
from offjax.leaderboard import statistics

FLAGS = flags.FLAGS
REPLICATES = 5_000


def interval(solved: np.ndarray) -> statistics.Estimate:
    """Mean of [seeds, trials], with an interval over both."""
    rng = np.random.default_rng(0)
    drawn = [
        rng.multinomial(n, np.full(n, 1 / n), size=REPLICATES) / n for n in solved.shape
    ]
    means = np.einsum("bs,sn,bn->b", drawn[0], solved, drawn[1], optimize=True)
    return statistics.Estimate(solved.mean(), *statistics.percentiles(means))


def measures(
    bench: Bench, method: str, kind: str, scores: scene.Scores
) -> dict[str, np.ndarray]:
    """Name of a column → what it is the mean of, [seeds, trials]."""
    single = 100.0 * (scores.singles.solved > 0)
    if kind != "plain":
        return {kind: single}
    known, given = all_instructions(bench.scene), bench.trials(method, kind)
    assert given is not None
    cube = np.array([known[trial.names[0]].is_cube for trial in given.singles], bool)
    found = {"single": single}
    if cube.any() and not cube.all():
        found |= {"cube": single[:, cube], "others": single[:, ~cube]}
    if scores.chains.solved.size:
        found["chain"] = scores.chains.solved.astype(float)
        for i in range(1, 6):
            found[f"chain {i}"] = 100.0 * (scores.chains.solved >= i)
    return found


Cells = dict[str, dict[str, np.ndarray]]
"""Label → column → [seeds, trials]."""


def paired(entries: Sequence[Entry], base: str) -> list[str]:
    """Labels of the runs that have the trials and the seeds of the run `base`.

    Methods that pursue given states have other trials than those that follow
    instructions.
    """
    of = {entry.label: entry for entry in entries}
    if base not in of:
        return []
    given = of[base].method in GIVEN_GOALS
    return [
        label
        for label, entry in of.items()
        if label != base
        and entry.method not in REFERENCES
        and (entry.method in GIVEN_GOALS) == given
        and entry.seeds == of[base].seeds
    ]


def table(cells: Cells, base: str, pairs: Sequence[str]) -> tuple[list[tuple], str]:
    """Rows of the CSV, and the page.

    Args:
      cells: what is shown.
      base: label of the row that others are compared with.
      pairs: labels of those others (`paired`).
    """
    columns = list(dict.fromkeys(c for each in cells.values() for c in each))
    shown = [c for c in columns if not c.startswith("chain ")]
    rows, lines = (
        [],
        ["| | " + " | ".join(shown) + " |", "|" + "---|" * (len(shown) + 1)],
    )
    for label, each in cells.items():
        texts = []
        for column in columns:
            if column not in each:
                texts += ["–"] if column in shown else []
                continue
            found = interval(each[column])
            shape = each[column].shape
            rows.append((label, column, *(f"{x:.3f}" for x in found), *shape))
            if column in shown:
                texts.append(_text(found, 2 if column == "chain" else 1))
        lines.append(f"| {label} | " + " | ".join(texts) + " |")
    if base in cells:
        lines += ["", f"Differences to {base}:", "", *lines[:2]]
        for label in (label for label in cells if label in pairs):
            texts = [_difference(cells[label], cells[base], name) for name in shown]
            lines.append(f"| {label} | " + " | ".join(texts) + " |")
    return rows, "\n".join(lines) + "\n"


def _text(found: statistics.Estimate, digits: int) -> str:
    value, low, high = (f"{x:.{digits}f}" for x in found)
    return f"{value} [{low}, {high}]"


def _difference(
    mine: dict[str, np.ndarray], base: dict[str, np.ndarray], column: str
) -> str:
    if column not in mine or column not in base:
        return "–"
    if mine[column].shape != base[column].shape:
        return "–"
    found = interval(mine[column] - base[column])
    return _text(found, 2 if column == "chain" else 1)


def per_instruction(found: dict[str, scene.Scores]) -> str:
    """Percentages of the single instructions, methods in columns."""
    names = sorted({name for each in found.values() for name in each.per_instruction})
    lines = ["| | " + " | ".join(found) + " |", "|" + "---|" * (len(found) + 1)]
    for name in names:
        texts = []
        for each in found.values():
            done, tried = each.per_instruction.get(name, (0, 0))
            texts.append(f"{100 * done / tried:.0f}" if tried else "–")
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    flags.DEFINE_string("runs_dir", "runs", "The run store.")
    flags.DEFINE_string("dataset", "offjax/scene/play-v0", "Described play.")
    flags.DEFINE_string("data_dir", None, "Root of the datasets.")
    flags.DEFINE_list("methods", [], "Methods; all by default.")
    flags.DEFINE_list("kinds", [*KINDS], "Kinds of trials.")
    flags.DEFINE_string("base", "gcbc", "Row that the others are compared with.")
    flags.DEFINE_integer("singles", scene.SINGLES, "Single instructions per seed.")
    flags.DEFINE_integer("chains", scene.CHAINS, "Chains of five per seed.")
    flags.DEFINE_bool("references", False, "Measure oracle and random actions, too.")
    flags.DEFINE_bool("report", False, "Write what was measured, and measure nothing.")
    flags.DEFINE_string("out", "docs/results/lcd_scene", "Without its .csv and .md.")


def main(_: list[str]) -> None:
    """Measures what is missing, and writes the tables."""
    from offjax.devices.layout import prepare_host_devices

    prepare_host_devices(None)
    for kind in FLAGS.kinds:
        if kind not in KINDS:
            raise UserError(f"There is no kind {kind!r} of trials; known: {[*KINDS]}.")
    dataset = load_dataset(FLAGS.dataset, FLAGS.data_dir)
    bench = Bench(dataset, Sizes(FLAGS.singles, FLAGS.chains), FLAGS.report)
    if FLAGS.references and not FLAGS.report:
        trials.add_references(bench, FLAGS.runs_dir)
    cells: Cells = {}
    each: dict[str, scene.Scores] = {}
    entries = trials.entries(FLAGS.runs_dir, FLAGS.dataset, FLAGS.methods)
    for entry in entries:
        for kind in FLAGS.kinds:
            scores = bench.scores(entry, kind)
            if scores is None:
                continue
            found = measures(bench, entry.method, kind, scores)
            cells.setdefault(entry.label, {}).update(found)
            text = ", ".join(f"{n} {x.mean():.1f}" for n, x in found.items())
            print(f"{entry.label}: {text}", flush=True)
            if kind == "plain":
                each[entry.label] = scores
    rows, page = table(cells, FLAGS.base, paired(entries, FLAGS.base))
    target = Path(FLAGS.out)
    header = ("run", "measure", "value", "low", "high", "seeds", "trials")
    write_csv(target.with_suffix(".csv"), header, rows)
    page += "\n" + per_instruction(each)
    target.with_suffix(".md").write_text(page)
    print(page)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
