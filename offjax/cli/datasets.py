"""Tabulates what this project's own datasets hold.

    offjax datasets --out=docs/results/datasets.md

Every dataset is loaded, and collected first where it is missing. Only what lies between
the page's two marks is written; the rest of the page stays as it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from absl import flags

import offjax
from offjax.behavior import ant_goal, policies
from offjax.catalog import collected
from offjax.cli import command as cli
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError

FLAGS = flags.FLAGS

BEGIN, END = "<!-- begin: experiments.datasets -->", "<!-- end -->"

_MAZES = ("maze2d", "antmaze")  # their recordings are cut where no evaluation ends


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_list(
        "datasets", None, "Ids, or families such as hopper; by default all of them."
    )
    flags.DEFINE_string("out", None, "Page to write the tables into; else printed.")
    cli.define_data_dir()
    flags.DEFINE_bool("collect", True, "Collect datasets that are missing.")


def main(argv: list[str]) -> None:
    """Prints or writes the tables of the datasets that the flags name."""
    del argv
    lines = [
        "| dataset | steps | episodes | length | return: min | median | mean | max "
        "| score |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in _names():
        dataset = offjax.load_dataset(
            name, FLAGS.data_dir, collect=FLAGS.collect, progress=print
        )
        lines.append(row(dataset))
    lines += ["", *_policy_table()]
    text = "\n".join(lines)
    if FLAGS.out is None:
        print(text)
    else:
        _write(Path(FLAGS.out), text)


def row(dataset: Dataset) -> str:
    """One line of the table: size, mean length, returns and their mean's score.

    An episode that the end of a recording cut short does not count. In maze2d an
    episode ends with each goal that was reached, in AntMaze with each step at the
    evaluation's goal, after which the recording goes on: no evaluation does that, so
    their returns have no score.
    """
    spec = dataset.spec
    assert spec is not None
    returns = dataset.episode_returns[complete(dataset)]
    score = "—"
    if spec.domain not in _MAZES:
        score = f"{spec.score(returns).mean():.1f}"
    numbers = (returns.min(), np.median(returns), returns.mean(), returns.max())
    shown = " | ".join(_number(float(x)) for x in numbers)
    length = dataset.episode_lengths[complete(dataset)].mean()
    return (
        f"| {dataset.card.id} | {len(dataset):,} | {dataset.card.episodes:,} "
        f"| {length:.0f} | {shown} | {score} |"
    )


def complete(dataset: Dataset) -> np.ndarray:
    """Which episodes were recorded to their end, [E] bool."""
    spec = dataset.spec
    assert spec is not None
    if spec.domain in _MAZES:
        return np.ones(dataset.card.episodes, bool)
    ended = dataset.terminals[dataset.episode_ends - 1]
    return ended | (dataset.episode_lengths == spec.horizon)


def _names() -> list[str]:
    known = collected.ids()
    asked = FLAGS.datasets
    if asked is None:
        return known
    names = []
    for item in asked:
        found = [name for name in known if name.split("/")[1] == item or name == item]
        if not found:
            raise UserError(
                f"--datasets={item} names no dataset and no family of offjax; "
                f"`offjax list datasets` prints the ids."
                f"{collected.near(item, known)}"
            )
        names += found
    return names


def _policy_table() -> list[str]:
    """Where the policies of robots come from."""
    lines = [
        "| robot | datasets | snapshot | used for | steps | updates | return | score |",
        "|---|---|---|---|---:|---:|---:|---:|",
    ]
    packaged = [
        (version, entry)
        for version, robots in enumerate(collected.ROBOTS)
        for robot in robots
        if robot in policies.packaged(version)
        for entry in policies.table(robot, version)
    ]
    packaged += [(0, entry) for entry in policies.table(ant_goal.NAME)]
    for version, entry in packaged:
        uses = {"replay": "medium-replay"}
        roles = ", ".join(uses.get(r, r) for r in entry["roles"].split())
        lines.append(
            f"| {entry['robot']} | v{version} | {entry['snapshot']} | {roles} "
            f"| {int(entry['env_steps']):,} | {int(entry['updates']):,} "
            f"| {float(entry['return_mean']):,.0f} ± "
            f"{float(entry['return_std']):,.0f} | {float(entry['score']):.1f} |"
        )
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _write(path: Path, text: str) -> None:
    """Puts the text between the page's marks."""
    page = path.read_text() if path.exists() else f"{BEGIN}\n{END}\n"
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise UserError(
            f"{path} does not have the lines {BEGIN!r} and {END!r} once each, between "
            "which the tables go: add them, or name another page with --out."
        )
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    print(f"wrote {path}")
