"""What a sweep runs: methods × datasets × settings as jobs, one run folder each.

Values of traced hyperparameters are packed into one job with the seeds; all else are
jobs of their own. A job is known by the hash of its configuration, by which its run is
found again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.presets import PRESETS
from offjax.runner import recorded
from offjax.runner.options import Options
from offjax.runner.records import RunFolder, digest, find_runs
from offjax.runner.stages import resolve_config
from offjax.runner.training import check, jobs_on
from offjax.types import EnvSpec

OPTIONS = (
    "num_seeds", "seed", "eval_every", "eval_episodes", "eval_chains", "eval_seed",
    "log_every", "checkpoint_every", "layout", "matmul_precision",
)  # fmt: skip
"""Fields of `Options` that an entry may set."""
KINDS: dict[str, tuple[Any, str]] = {
    "config": (dict, "an object of names and values"),
    "priority": ((int, float), "a number"),
    "preset": (str, "a name"),
    "layout": (str, "a name"),
    "matmul_precision": (str, "a name"),
}
"""Type of what an entry sets, with its name; all else is a whole number."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A block of a sweep: every method on every dataset with every setting."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    preset: str = "small"
    config: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    priority: float = 0.0


@dataclasses.dataclass(frozen=True)
class Job:
    """One run to be made: all that a worker process needs to know."""

    hash: str  # of its configuration, as in its run.json
    method: str
    dataset: str
    preset: str
    overrides: dict[str, tuple]
    options: dict[str, Any]
    variants: tuple[str, ...]
    priority: float = 0.0  # jobs with a greater one begin first
    shape: tuple[int, int] = (0, 0)  # numbers of an observation and of an action

    @property
    def label(self) -> str:
        """Method, dataset and what differs from the preset."""
        names = self.variants[0]
        if len(self.variants) > 1:
            names += f" and {len(self.variants) - 1} more"
        return f"{self.method} · {self.dataset} · {names}"

    def to_json(self) -> dict[str, Any]:
        """For `from_json`; pairs, since the overrides' order names the variants."""
        return dataclasses.asdict(self) | {"overrides": list(self.overrides.items())}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Job:
        """The job whose `to_json` a file has."""
        overrides = _overrides(dict(content["overrides"]))
        tuples = {name: tuple(content[name]) for name in ("variants", "shape")}
        return Job(**{**content, "overrides": overrides, **tuples})


def parse_file(path: str | Path) -> list[Entry]:
    """The entries of a sweep file.

    JSON: `{"entries": [{"methods": [...], "datasets": [...], "preset": "small",
    "config": {"lr": [1e-3, 3e-4]}, "priority": 1, "num_seeds": 5, ...}]}`.

    Raises:
      UserError: not such a file, or a name that is not known.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"the sweep file {path} cannot be read: {error}.") from error
    entries = content.get("entries") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f'the sweep file {path} has no list of "entries".')
    return [_entry(path, i, entry) for i, entry in enumerate(entries)]


def _entry(path: str | Path, number: int, content: Any) -> Entry:
    where = f"entry {number} of the sweep file {path}"
    known = ("methods", "datasets", "preset", "config", "priority", *OPTIONS)
    if not isinstance(content, dict):
        raise UserError(f"{where} is not an object.")
    for name in content:
        if name not in known:
            raise UserError(
                f"{where} has the unknown name {name!r}; known: {', '.join(known)}."
            )
    for name in ("methods", "datasets"):
        value = content.get(name)
        if not (
            isinstance(value, list) and value and all(isinstance(v, str) for v in value)
        ):
            raise UserError(f"{where} needs {name!r}: a list of names.")
    for name in sorted(set(content) - {"methods", "datasets"}):
        kind, words = KINDS.get(name, (int, "a whole number"))
        if not isinstance(content[name], kind) or isinstance(content[name], bool):
            raise UserError(f"{where}: {name} is {content[name]!r}, not {words}.")
    config = content.get("config", {})
    values = {n: v if isinstance(v, list) else [v] for n, v in config.items()}
    return Entry(
        tuple(content["methods"]),
        tuple(content["datasets"]),
        content.get("preset", "small"),
        _overrides(values),
        {name: content[name] for name in OPTIONS if name in content},
        float(content.get("priority", 0.0)),
    )


def _overrides(values: Mapping[str, Sequence[Any]]) -> dict[str, tuple]:
    """Name → values as JSON has them → as `settings.expand` takes them."""
    return {name: recorded.tuples(each) for name, each in values.items()}


def expand(
    entries: Sequence[Entry],
    load: Callable[[str], Dataset | None],
    sweep: str,
    spec_of: Callable[[str], EnvSpec | None] = lambda name: None,
) -> list[Job]:
    """The jobs of a sweep, each configuration once, in the order in which they begin.

    All settings are checked before the first dataset is loaded.

    Args:
      entries: what is wanted.
      load: dataset by id, called once for each; None plans its jobs without data, by
        `spec_of`. No run of theirs is found.
      sweep: name of the sweep, for the runs' records.
      spec_of: environment by id, as far as it is known without data.

    Raises:
      UserError: an unknown method, dataset, hyperparameter or option, or a value out
        of range.
    """
    names = dict.fromkeys(name for entry in entries for name in entry.datasets)
    specs = {name: spec_of(name) for name in names}
    for entry in entries:
        if entry.preset not in PRESETS:
            raise UserError(
                f"preset {entry.preset!r} is not one of {', '.join(PRESETS)}."
            )
        _options(entry, sweep)
        for method in entry.methods:
            for name in entry.datasets:
                check(method, entry.preset, entry.config, name, specs[name])
    identities = dict.fromkeys(names, "")
    for name in names:
        dataset = load(name)
        if dataset is not None:
            specs[name], identities[name] = dataset.spec, dataset.card.identity
    jobs: dict[str, Job] = {}
    for entry in entries:
        for name in entry.datasets:
            for method in entry.methods:
                where = name, specs[name], identities[name]
                for job in _jobs(entry, method, *where, sweep):
                    jobs.setdefault(job.hash, job)
    return sorted(jobs.values(), key=lambda job: -job.priority)


def _options(entry: Entry, sweep: str) -> Options:
    """The options of an entry's runs, checked."""
    try:
        options = Options(**entry.options, sweep=sweep, resume=True)
    except TypeError as error:
        raise UserError(f"an option of the sweep is wrong: {error}.") from error
    options.validate()
    return options


def _jobs(
    entry: Entry,
    method: str,
    dataset: str,
    spec: EnvSpec | None,
    identity: str,
    sweep: str,
) -> list[Job]:
    options, preset = _options(entry, sweep), entry.preset
    return [
        Job(
            digest(resolve_config(job, method, preset, dataset, identity, options)),
            method,
            dataset,
            preset,
            job.overrides,
            dict(entry.options),
            tuple(job.variants),
            entry.priority,
            (spec.observation_dim, spec.action_dim) if spec else (0, 0),
        )
        for job in jobs_on(method, preset, dataset, spec, entry.config)
    ]


Team = tuple[Job, ...]
"""Jobs that one process trains together."""


def teams(jobs: Sequence[Job], together: bool) -> list[Team]:
    """The jobs as teams, those with the greatest priority first.

    Args:
      jobs: any.
      together: whether jobs that differ in nothing but the dataset, of equal shapes,
        are a team; else each is one of its own.
    """
    found: dict[Any, list[Job]] = {}
    for job in jobs:
        alike: Any = job.hash
        if together and job.shape != (0, 0):
            content = job.to_json() | {"hash": "", "dataset": ""}
            alike = json.dumps(content, sort_keys=True, default=str)
        found.setdefault(alike, []).append(job)
    return sorted(map(tuple, found.values()), key=lambda team: -team[0].priority)


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a job's newest run is."""

    status: str  # "waiting", or that of run.json
    step: int = 0  # of `total` updates
    total: int = 0
    path: Path | None = None  # the run's folder, if there is one


def progress(job: Job, runs_dir: Path) -> Progress:
    """How far the job's run is, read from the run store."""
    known = [(r, _record(r)) for r in find_runs(runs_dir, job.method, job.dataset)]
    mine = [(r, found) for r, found in known if found.get("config_hash") == job.hash]
    if not mine:
        return Progress("waiting")
    finished = [(r, found) for r, found in mine if found["status"] == "finished"]
    run, record = (finished or mine)[0]
    total = int(record.get("total_steps", 0))
    step = total if finished else _last_step(run)
    return Progress(record["status"], step, total, run.path)


def _record(run: RunFolder) -> dict[str, Any]:
    try:
        return run.record
    except UserError:  # half written, or removed meanwhile
        return {"status": "unreadable"}


def _last_step(run: RunFolder) -> int:
    try:
        with (run.path / "metrics.csv").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 400))
            last = file.read().decode(errors="replace").splitlines()[-1]
        return int(last.split(",")[0])
    except (OSError, ValueError, IndexError):
        return 0
