"""Whether a row is true: its last evaluation, played again from its parameters.

What that can tell, and when, is in `offjax.agents.verdicts`.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from offjax.agents import archive
from offjax.agents.archive import Archive
from offjax.agents.verdicts import (
    DIFFERS,
    SHOWN,
    UNKNOWN,
    Episode,
    Episodes,
    Key,
    Scores,
    Verdict,
    compare,
)
from offjax.catalog.load import known_spec, lies_here, load_dataset
from offjax.datasets import checks
from offjax.errors import UserError
from offjax.evaluation import environments
from offjax.leaderboard.store import damaged_file, read_json
from offjax.runner.evaluator import Acting, Evaluator
from offjax.runner.records import (
    HEADERS,
    digest,
    environment,
    processor,
)
from offjax.types import EnvSpec


def verify(folder: Path, data_dir: str | None = None) -> Verdict:
    """Plays the last evaluation of an exported run again.

    Args:
      folder: of the exported run.
      data_dir: root of the datasets, for policies that pursue recorded states.
    """
    what = f"The exported run {folder}"
    try:
        with checks.damaged(what, "Copy it again, or export it again."):
            damaged = damaged_file(folder)
            if damaged:
                text = f"{damaged} is not what checksums.json says."
                return Verdict(DIFFERS, (text,))
            found = archive.read(folder / archive.FILE)
            config, record = (
                read_json(folder / "config.json"),
                read_json(folder / "run.json"),
            )
            step = record["total_steps"]
            recorded = _recorded_episodes(folder, step), _recorded_scores(folder, step)
            wrong = list(_contradictions(found, config, record, recorded))
        if wrong:
            return Verdict(DIFFERS, tuple(wrong[:SHOWN]))
        evaluator = Evaluator(_with_trials(found, data_dir))
        _require_environment(found, evaluator)
        played = _played(evaluator, config["method"], step)
    except UserError as error:
        return Verdict(UNKNOWN, (str(error),))
    verdict = compare(recorded, played, same_machine(record))
    left = [seed for seed in config["seeds"] if seed not in found.options.seeds]
    if left:
        more = f"The archive has no parameters of the seeds {left}: not replayed."
        verdict = verdict._replace(reasons=(*verdict.reasons, more))
    return verdict


# -- what is recorded ---------------------------------------------------------


def _rows(folder: Path, file: str, step: int) -> Iterator[dict[str, str]]:
    """Rows of a CSV file, packed or not, at a step."""
    path = folder / file
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        text = gzip.decompress((folder / f"{file}.gz").read_bytes()).decode()
    for row in csv.DictReader(io.StringIO(text)):
        if int(row["step"]) == step:
            yield row


def _recorded_episodes(folder: Path, step: int) -> Episodes:
    found: dict[Key, dict[int, Episode]] = {}
    for row in _rows(folder, "episodes.csv", step):
        mine = found.setdefault((row["variant"], int(row["seed"])), {})
        mine[int(row["episode"])] = Episode(row["return"], int(row["length"]))
    return found


def _recorded_scores(folder: Path, step: int) -> Scores:
    columns = HEADERS["scores.csv"][-4:]
    return {
        (row["variant"], int(row["seed"])): [row[name] for name in columns]
        for row in _rows(folder, "scores.csv", step)
    }


def _contradictions(
    found: Archive,
    config: Mapping[str, Any],
    record: Mapping[str, Any],
    recorded: tuple[Episodes, Scores],
) -> Iterator[str]:
    """What the files of one row say against each other."""
    yield from _archived_otherwise(found, config, record)
    yield from _foreign_environment(found.dataset.spec, config["dataset"])
    surplus = list(_surplus(config, recorded))
    yield from surplus or _miscalculated(found.dataset.spec, *recorded)


def _archived_otherwise(
    found: Archive, config: Mapping[str, Any], record: Mapping[str, Any]
) -> Iterator[str]:
    """What an archive has otherwise than the files beside it."""
    if digest(config) != record.get("config_hash"):
        yield "config.json has another hash than run.json says."
    archived = found.manifest["config"]
    for name in sorted({*config, *archived}):
        if config.get(name) != archived.get(name):
            yield (
                f"{name} is {config.get(name)!r} in config.json, and "
                f"{archived.get(name)!r} in the archive."
            )
    for name in archive.FACTS:
        mine, its = record.get(name), found.manifest["run"].get(name)
        if mine != its:
            yield f"{name} is {mine!r} in run.json, and {its!r} in the archive."


def _foreign_environment(spec: EnvSpec | None, dataset: str) -> Iterator[str]:
    """Where the archive's environment is not the one that the dataset's id means."""
    try:
        known = known_spec(dataset)
    except UserError:  # a dataset that is not here
        return
    if known is None or spec is None:
        return
    for field in dataclasses.fields(EnvSpec):
        mine, wanted = getattr(spec, field.name), getattr(known, field.name)
        told = field.name != "score_source" and wanted not in (None, 0, (), "")
        if told and mine != wanted:
            yield (
                f"{field.name} of the environment is {mine!r} in the archive, but "
                f"{wanted!r} for {dataset}."
            )


def _surplus(
    config: Mapping[str, Any], recorded: tuple[Episodes, Scores]
) -> Iterator[str]:
    """Rows that the configuration does not know, and those that it misses."""
    variants = [setting["variant"] for setting in config["settings"]]
    wanted = {(v, s) for v in variants for s in config["seeds"]}
    for file, rows in zip(("episodes.csv", "scores.csv"), recorded, strict=True):
        for variant, seed in sorted({*rows} - wanted):
            yield f"{file} has a seed {seed} of {variant}, which was not trained."
        for variant, seed in sorted(wanted - {*rows}):
            yield f"{file} lacks the last evaluation of seed {seed} of {variant}."


def _miscalculated(
    spec: EnvSpec | None, episodes: Episodes, scores: Scores
) -> Iterator[str]:
    """Means and scores that do not follow from the recorded episodes."""
    if spec is None or environments.instructed(spec):  # which count other things
        return
    for (variant, seed), columns in scores.items():
        returns = [float(e.value) for e in episodes[variant, seed].values()]
        mean = math.fsum(returns) / len(returns)
        wanted = {"return_mean": mean, "score": float(spec.score(np.array(mean)))}
        for name, value in zip(("return_mean", "score"), columns[1::2], strict=True):
            found = float(value or "nan")
            both_unknown = math.isnan(found) and math.isnan(wanted[name])
            if not (
                both_unknown
                or math.isclose(found, wanted[name], rel_tol=1e-4, abs_tol=1e-4)
            ):
                yield (
                    f"scores.csv has {name} {value} for seed {seed} of {variant}, but "
                    f"{wanted[name]:.6g} follows from the episodes."
                )


# -- what is played -----------------------------------------------------------


def _with_trials(found: Archive, data_dir: str | None) -> Acting:
    """The archive, with its dataset where a policy pursues recorded states."""
    recipe = found.job.recipe
    if not recipe.actor(recipe).given_goals:
        return found
    name = found.dataset.card.id
    if not lies_here(name, data_dir):
        raise UserError(f"It pursues recorded states, and {name} does not lie here.")
    return dataclasses.replace(found, dataset=load_dataset(name, data_dir))


def _require_environment(found: Archive, evaluator: Evaluator) -> None:
    """Refuses environments that are not here, or whose id would import a module."""
    spec = found.dataset.spec
    if spec is not None and ":" in spec.id:
        raise UserError(
            f"Its environment {spec.id} is a module to import, which is not done for "
            "an archive; import it yourself, and evaluate the run."
        )
    if evaluator.missing is not None:
        raise UserError(f"It cannot be evaluated here: {evaluator.missing}")


def _played(evaluator: Evaluator, method: str, step: int) -> tuple[Episodes, Scores]:
    """What is recorded of an evaluation, in the form of what was."""
    rows = evaluator.rows(method, step)
    episodes: dict[Key, dict[int, Episode]] = {}
    for variant, seed, _, number, value, length in rows.episodes:
        episodes.setdefault((variant, seed), {})[number] = Episode(value, length)
    scores = {
        (variant, seed): [str(x) for x in columns]
        for _, variant, _, seed, _, *columns in rows.scores
    }
    return episodes, scores


def same_machine(record: Mapping[str, Any]) -> bool:
    """Whether a run's versions, devices and processor are those here."""
    kind = (record.get("devices") or {}).get("kind")
    return (
        kind == jax.local_devices()[0].device_kind
        and record.get("processor") == processor()
        and record.get("versions") == environment()["versions"]
    )
