"""A benchmark that is declared in a file: datasets × methods under one protocol.

The file (TOML) names the protocol once and lists domains, each with its datasets and
methods. A benchmark is filled dataset by dataset in the order of the file, so that
columns grow whole, and within one from the method with the fewest updates on.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from offjax import methods
from offjax.catalog.load import (
    collect_dataset,
    known_spec,
    lies_here,
    load_dataset,
)
from offjax.errors import UserError
from offjax.presets import PRESETS
from offjax.runner import interrupts
from offjax.sweeps import local, plan
from offjax.sweeps.engine import Place
from offjax.sweeps.lines import Lines

PROTOCOL = ("num_seeds", "seed", "eval_every", "eval_episodes", "eval_seed")
DEFAULT = Path(__file__).with_name("benchmark.toml")
"""The project's own benchmark."""
DEMO = Path(__file__).with_name("demo.toml")
"""What `make run` trains."""


@dataclasses.dataclass(frozen=True)
class Domain:
    """Datasets of one kind, and the methods that are compared on them.

    Attributes:
      name: of the domain.
      datasets: their ids.
      methods: their names.
      protocol: options of its runs, those of `PROTOCOL`.
      size: of its datasets, episodes of Budget Allocation and transitions of others;
        None: their own.
    """

    name: str
    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    protocol: Mapping[str, int]
    size: int | None = None


@dataclasses.dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
      name: of the benchmark.
      version: grows when the protocol, a dataset or a preset changes.
      preset: of all methods.
      domains: in the order in which they are filled.
    """

    name: str
    version: int
    preset: str
    domains: tuple[Domain, ...]

    def only(
        self,
        domains: Sequence[str] = (),
        datasets: Sequence[str] = (),
        methods: Sequence[str] = (),
    ) -> Suite:
        """The part of it that is named; an empty list names all.

        Raises:
          UserError: a name that the benchmark does not have.
        """
        whole = {
            "domain": {d.name for d in self.domains},
            "dataset": {name for d in self.domains for name in d.datasets},
            "method": {name for d in self.domains for name in d.methods},
        }
        for kind, names in zip(whole, (domains, datasets, methods), strict=True):
            for name in names:
                if name not in whole[kind]:
                    known = ", ".join(sorted(whole[kind]))
                    raise UserError(
                        f"the benchmark {self.name!r} has no {kind} {name!r}; it has "
                        f"{known}."
                    )
        kept = [
            dataclasses.replace(
                d,
                datasets=_chosen(d.datasets, datasets),
                methods=_chosen(d.methods, methods),
            )
            for d in self.domains
            if d.name in domains or not domains
        ]
        left = tuple(d for d in kept if d.datasets and d.methods)
        return dataclasses.replace(self, domains=left)

    def with_protocol(self, **options: int) -> Suite:
        """The benchmark with other options in all domains, those of `PROTOCOL`."""
        changed = tuple(
            dataclasses.replace(d, protocol={**d.protocol, **options})
            for d in self.domains
        )
        return dataclasses.replace(self, domains=changed)

    def entry(self, domain: Domain, dataset: str) -> plan.Entry:
        """A column of the benchmark as an entry of a sweep."""
        return plan.Entry(
            domain.methods, (dataset,), self.preset, options=dict(domain.protocol)
        )

    def columns(self) -> list[tuple[Domain, str]]:
        """Its datasets with their domains, in the order in which they are filled."""
        return [(d, name) for d in self.domains for name in d.datasets]

    def planned(self) -> frozenset[tuple[str, str]]:
        """(dataset, method) of every cell."""
        return frozenset(
            (name, method) for d, name in self.columns() for method in d.methods
        )


def _chosen(names: Iterable[str], wanted: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in wanted or not wanted)


def read(path: str | Path) -> Suite:
    """The benchmark of a file.

    Raises:
      UserError: a file that is none, or has a name or value that it must not have.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"the benchmark {path} cannot be read: {error}.") from error
    head: dict[str, type] = {
        "name": str,
        "version": int,
        "preset": str,
        "domains": list,
    }
    known = head | dict.fromkeys(PROTOCOL, int)
    _check(f"the benchmark {path}", content, known, head)
    if content["preset"] not in PRESETS:
        raise UserError(
            f"the benchmark {path}: preset is {content['preset']!r}, which is not one "
            f"of {', '.join(PRESETS)}."
        )
    return Suite(
        content["name"],
        content["version"],
        content["preset"],
        tuple(
            _domain(f"domain {i} of the benchmark {path}", each, _protocol(content))
            for i, each in enumerate(content["domains"])
        ),
    )


def _protocol(content: Mapping[str, Any]) -> dict[str, int]:
    return {name: content[name] for name in PROTOCOL if name in content}


def _domain(where: str, content: Any, protocol: Mapping[str, int]) -> Domain:
    """A domain; what it says of the protocol goes before what the whole file says."""
    needed: dict[str, type] = {"name": str, "datasets": list, "methods": list}
    numbers = dict.fromkeys((*PROTOCOL, "size"), int)
    _check(where, content, needed | numbers, set(needed))
    for name in ("datasets", "methods"):
        if not content[name] or not all(isinstance(v, str) for v in content[name]):
            raise UserError(f"{where} needs {name!r}: a list of names.")
    for method in content["methods"]:
        if "+" not in method:
            methods.check("method", method, methods.METHODS)
    foreign = [n for n in content["datasets"] if not n.startswith("offjax/")]
    if "size" in content and foreign:
        raise UserError(
            f"{where}: size is of datasets that offjax collects, which {foreign[0]!r} "
            "is not; leave size out, or give that dataset a domain of its own."
        )
    return Domain(
        content["name"],
        tuple(content["datasets"]),
        tuple(content["methods"]),
        {**protocol, **_protocol(content)},
        content.get("size"),
    )


def _check(
    where: str, content: Any, kinds: Mapping[str, type], needed: Iterable[str]
) -> None:
    """Refuses a table with other names, or values of other types."""
    if not isinstance(content, dict):
        raise UserError(f"{where} is not a table.")
    for name in sorted(needed):
        if name not in content:
            raise UserError(f"{where} has no {name!r}.")
    for name, value in content.items():
        if name not in kinds:
            known = ", ".join(kinds)
            raise UserError(f"{where} has the unknown name {name!r}; known: {known}.")
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            words = {int: "a whole number", str: "text", list: "a list"}[kinds[name]]
            raise UserError(f"{where}: {name} is {value!r}, not {words}.")


@dataclasses.dataclass(frozen=True)
class Cell:
    """A job of the benchmark, and where it stands.

    Attributes:
      job: what is trained.
      progress: how far its newest run is, in the first folder that has one finished.
      updates: all stages together, of one seed.
    """

    job: plan.Job
    progress: plan.Progress
    updates: int

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.progress.status == "finished"


def cells(jobs: Iterable[plan.Job], runs_dirs: Sequence[str | Path]) -> list[Cell]:
    """Where the jobs stand, those with the fewest updates first.

    Args:
      jobs: of one dataset.
      runs_dirs: folders of runs, or of exported ones.
    """
    found = []
    for job in jobs:
        each = [plan.progress(job, Path(folder)) for folder in runs_dirs]
        done = [p for p in each if p.status == "finished"]
        recipe = methods.build(job.method, None, job.preset)
        updates = sum(stage.num_steps for stage in recipe.stages)
        found.append(Cell(job, (done or each)[0], updates))
    return sorted(found, key=lambda cell: cell.updates)


def column(
    suite: Suite,
    domain: Domain,
    name: str,
    runs_dirs: Sequence[str | Path],
    data_dir: str | None = None,
    collect: Callable[[str], None] | None = None,
) -> list[Cell]:
    """The cells of a dataset of the benchmark.

    Args:
      suite: the benchmark.
      domain: of the dataset.
      name: its id.
      runs_dirs: as of `cells`.
      data_dir: root of the datasets.
      collect: told of the dataset's collection; None: one that is not there has no
        cells.

    Raises:
      UserError: the dataset cannot be read, or is there in another size.
    """
    if collect is None and not lies_here(name, data_dir):
        return []
    if domain.size is None:
        dataset = load_dataset(name, data_dir, progress=collect)
    else:
        dataset = collect_dataset(
            name, domain.size, data_dir=data_dir, progress=collect
        )
    jobs = plan.expand([suite.entry(domain, name)], lambda _: dataset, suite.name)
    return cells(jobs, runs_dirs)


def fill(
    suite: Suite,
    place: Place,
    max_parallel: int,
    runs_dirs: Sequence[str | Path] = (),
    say: Callable[[str], None] = print,
    after: Callable[[], None] = lambda: None,
    by_column: bool = True,
    together: bool = False,
) -> list[plan.Job]:
    """Trains what is missing of a benchmark.

    Args:
      suite: the benchmark.
      place: where the jobs write.
      max_parallel: jobs side by side.
      runs_dirs: further folders whose finished runs count.
      say: told of what happens, a line at a time.
      after: called when a column is done, or training was interrupted.
      by_column: one column after the other, so that they grow whole; else all jobs in
        one queue, the last column and the longest first, so that no core waits.
      together: columns of one domain and shape are one, and a method's runs on their
        datasets are trained together.

    Returns:
      The jobs that failed.
    """
    failed: list[plan.Job] = []
    queue: list[plan.Job] = []
    folders = [place.runs_dir, *runs_dirs]

    def told(line: str) -> None:
        say(line)
        if interrupts.requested():  # a collection goes on where it was
            raise interrupts.Interrupted

    def carry_out(jobs: list[plan.Job]) -> None:
        lines = Lines(jobs, place, say)
        outcomes = local.run(jobs, place, lines, max_parallel, together=together)
        failed.extend(job for job in jobs if outcomes[job.hash].status == "failed")
        after()

    for columns in _batches(suite, place.data_dir, together):
        todo: list[Cell] = []
        try:
            for domain, name in columns:
                if interrupts.requested():
                    raise interrupts.Interrupted
                found = column(suite, domain, name, folders, place.data_dir, told)
                left = [cell for cell in found if not cell.finished]
                say(f"{name}: {len(left)} of {len(found)} to train")
                todo += left
        except interrupts.Interrupted:
            break
        jobs = [cell.job for cell in sorted(todo, key=lambda cell: cell.updates)]
        if by_column:
            carry_out(jobs)
        queue += jobs
    if not by_column and not interrupts.requested():
        carry_out(queue[::-1])
    return failed


def _batches(
    suite: Suite, data_dir: str | None, together: bool
) -> list[list[tuple[Domain, str]]]:
    """The columns, those of one domain and shape together, in the file's order."""
    found: dict[Any, list[tuple[Domain, str]]] = {}
    for domain, name in suite.columns():
        kind: Any = name
        spec = known_spec(name, data_dir) if together else None
        if spec is not None and spec.observation_dim:
            kind = domain.name, spec.observation_dim, spec.action_dim
        found.setdefault(kind, []).append((domain, name))
    return list(found.values())


def require_none(failed: Sequence[plan.Job], place: Place) -> None:
    """Raises `UserError` if jobs failed, with their logs."""
    if failed:
        names = ", ".join(job.label for job in failed)
        raise UserError(
            f"{len(failed)} runs failed: {names}. Their logs are in "
            f"{place.folder / 'logs'}; mend what they say, and give the command again."
        )
