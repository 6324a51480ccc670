"""Archives of trained agents: one file with all that acting needs, safe to read.

An archive is an npz file of plain arrays, without pickles, and a `manifest.json`:

    format, run     what made it: versions, commit, hash, keys of its stages
    config          the run's config.json
    spec            the environment, with the bounds of actions
    seeds           those whose parameters it holds
    stages          of each: the shapes of its view, the places of the stored leaves in
                    its state, a digest of what is stored, and digests of its states

Of every stage it holds the leaves that acting reads: no optimizer, no target network
that learning alone needs. Leading axes are the slots, as in the run.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from offjax import methods
from offjax.agents.outline import outline, read_in_acting, shapes
from offjax.datasets import checks, untrusted
from offjax.devices.layout import first_slot
from offjax.errors import UserError
from offjax.leaderboard.export import PARAMETERS
from offjax.runner import digests, recorded
from offjax.runner.options import Options
from offjax.runner.settings import Job
from offjax.runner.stages import (
    StageRun,
    layout_of,
    models_of,
    slot_map,
    stage_data,
    stage_slots,
    state_shapes,
)
from offjax.types import EnvSpec, Model, Pytree

if TYPE_CHECKING:
    from offjax.runner.run import Run

FILE = PARAMETERS
"""Name of an archive beside the other files of an exported run."""
MANIFEST = "manifest.json"
FORMAT = 1
FACTS = (
    "commit", "config_hash", "dataset", "devices", "diverged", "processor",
    "seed_layout", "stages", "total_steps", "versions",
)  # fmt: skip
"""What a manifest has of run.json."""
_LONGEST_MANIFEST = 64_000_000
_DATE = (1980, 1, 1, 0, 0, 0)  # the same run is always the same bytes


class Card(NamedTuple):
    """Name of a dataset."""

    id: str


class Source(NamedTuple):
    """What acting reads of the dataset that an agent was trained on."""

    card: Card
    spec: EnvSpec | None


@dataclasses.dataclass(frozen=True)
class Archive:
    """What an archive holds; an `offjax.runner.evaluator.Acting`."""

    path: Path
    manifest: Mapping[str, Any]
    job: Job
    dataset: Any  # a `Source`, or the dataset itself
    options: Options
    stages: list[StageRun]


# -- writing ------------------------------------------------------------------


def write(run: Run, path: Path, num_seeds: int = 0) -> None:
    """Writes the final parameters of a run.

    Args:
      run: a finished run, loaded.
      path: the file.
      num_seeds: the first so many seeds only; 0: all.

    Raises:
      UserError: the run has fewer seeds, observations that are no vectors, or the file
        cannot be written.
    """
    seeds = run.training.options.seeds
    if num_seeds > len(seeds):
        raise UserError(
            f"{run.path} has {len(seeds)} seeds, fewer than the {num_seeds} whose "
            "parameters were asked for."
        )
    seeds = seeds[: num_seeds or None]
    entries, arrays = _stages(run, seeds)
    record = run.folder.record
    manifest = {
        "format": FORMAT,
        "run": {name: record.get(name) for name in FACTS},
        "config": run.folder.config,
        "spec": _described(run.training.dataset.spec),
        "seeds": seeds,
        "stages": entries,
    }
    part = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(part, "w") as file:
            _add(file, MANIFEST, json.dumps(manifest, indent=1).encode())
            for name, array in arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                _add(file, f"{name}.npy", buffer.getvalue())
        part.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}). Free space there, "
            "or choose another folder."
        ) from error


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    file.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED, 6)


def _stages(run: Run, seeds: Sequence[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest's entry of each stage, and the stored arrays by name."""
    training = run.training
    _, params = run.evaluator.acting_slots()
    width, dtype = _observation_dim(run), training.dataset.observations.dtype
    agent = run.evaluator.agent()
    read = read_in_acting(agent, first_slot(params), width, dtype)
    entries: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for stage in training.stages:
        name = stage.stage.name
        slots = stage_slots(training.job, name, seeds)
        index = slot_map(stage.slots, slots, len(seeds))
        leaves = jax.tree.leaves(stage.states)
        kept = [i for i, flag in enumerate(read[name]) if flag]
        stored = {_name(name, i): np.asarray(leaves[i])[index] for i in kept}
        data = stage_data(stage, training.dataset, training.upstream(stage))
        entries[name] = {
            "method": [stage.stage.method.name, stage.stage.method.version],
            "data": outline(first_slot(data) if stage.stage.view.per_seed else data),
            "kept": kept,
            "sha256": digests.of_arrays(stored.values()),
            "digests": _digests(run, stage),
        }
        arrays |= stored
    return entries, arrays


def _digests(run: Run, stage: StageRun) -> list[tuple[int, list[str]]]:
    """Of every checkpoint, as far as they were recorded, and of the final states."""
    meta = run.training.store.meta(run.folder.record["stages"][stage.stage.name])
    before = [tuple(each) for each in meta.get("digests", [])]
    final = stage.stage.num_steps, digests.of_slots(stage.states)
    return [*(each for each in before if each[0] < final[0]), final]


def _name(stage: str, leaf: int) -> str:
    return f"{stage}/{leaf:05d}"


def _observation_dim(run: Run) -> int:
    observations = run.training.dataset.observations
    if not isinstance(observations, np.ndarray) or observations.ndim != 2:
        raise UserError(
            f"{run.path} was trained on observations that are no vectors; an archive "
            "holds agents that act on vectors."
        )
    return observations.shape[1]


def _described(spec: EnvSpec | None) -> dict[str, Any] | None:
    return None if spec is None else dataclasses.asdict(spec)


# -- reading ------------------------------------------------------------------


def read(path: Path) -> Archive:
    """Reads an archive; no code in it is run.

    Raises:
      UserError: it is missing, damaged, of another format or version, of an unknown
        method, or its arrays are not those that its configuration asks for.
    """
    if not path.is_file():
        raise UserError(
            f"There is no archive {path}. `offjax leaderboard --export=FOLDER "
            f"--parameters` writes one, {FILE}, beside each run."
        )
    what = f"The archive {path}"
    text = untrusted.read_text(path, MANIFEST, _LONGEST_MANIFEST, what)
    with checks.damaged(what, "Copy it again from where it was made."):
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise UserError(
                f"{what} has format {manifest['format']}, and this offjax reads "
                f"{FORMAT}. Read it with {_made_by(manifest)}."
            )
        return _archive(path, manifest, what)


def _made_by(manifest: Mapping[str, Any]) -> str:
    """The offjax that wrote an archive, in words."""
    run = manifest.get("run") or {}
    version = (run.get("versions") or {}).get("offjax", "unknown")
    return f"the offjax that made it: version {version}, commit {run.get('commit')}"


def _archive(path: Path, manifest: dict[str, Any], what: str) -> Archive:
    config, seeds = manifest["config"], manifest["seeds"]
    if seeds != list(range(seeds[0], seeds[0] + len(seeds))) or seeds[0] < 0:
        raise ValueError("its seeds do not follow one another")
    spec = _spec(manifest["spec"])
    try:
        recipe = methods.build(
            config["method"], spec, config["preset"], config["dataset"]
        )
        job = recorded.job_of(recipe, config)
    except UserError as error:
        raise UserError(
            f"{what} cannot be used by this offjax: {error} It can be with "
            f"{_made_by(manifest)}."
        ) from error
    options = Options(
        num_seeds=len(seeds),
        seed=seeds[0],
        eval_episodes=config["eval_episodes"],
        eval_chains=config.get("eval_chains", 0),
        eval_seed=config["eval_seed"],
        layout=config["layout"],
        matmul_precision=config.get("matmul_precision", "default"),
        quiet=True,
    )
    options.validate()
    source = Source(Card(config["dataset"]), spec)
    found = Archive(path, manifest, job, source, options, [])
    for stage in job.recipe.stages:
        _add_stage(found, stage.name, what)
    return found


def _spec(content: dict[str, Any] | None) -> EnvSpec | None:
    if content is None:
        return None
    values = {name: recorded.tuples(value) for name, value in content.items()}
    return EnvSpec(**values)


def _add_stage(archive: Archive, name: str, what: str) -> None:
    """Reads the stored leaves of a stage; the others, which nobody reads, are zeros."""
    job, options = archive.job, archive.options
    stage, entry = job.recipe.stage(name), archive.manifest["stages"][name]
    version = [stage.method.name, stage.method.version]
    if entry["method"] != version:
        raise UserError(
            f"{what}: its stage {name} was trained by version {entry['method'][1]} of "
            f"{entry['method'][0]}, and this offjax has version {version[1]} of "
            f"{version[0]}. Use {_made_by(archive.manifest)}."
        )
    slots = stage_slots(job, name, options.seeds)
    before = archive.stages[-1].last_step if archive.stages else 0
    key = archive.manifest["run"]["stages"][name]
    run = StageRun(stage, slots, layout_of(slots.num_slots, options), key, before)
    run.digests = [tuple(each) for each in entry["digests"]]
    upstream = models_of(archive.stages, slots, stage.reads, options.num_seeds)
    run.states = _states(archive, run, entry, upstream, what)
    archive.stages.append(run)


def _states(
    archive: Archive,
    run: StageRun,
    entry: Mapping[str, Any],
    upstream: Mapping[str, Model],
    what: str,
) -> Pytree:
    like = state_shapes(run, shapes(entry["data"]), upstream)
    wanted, structure = jax.tree.flatten(like)
    names = {i: _name(run.stage.name, i) for i in entry["kept"]}
    arrays = untrusted.read_npz(archive.path, list(names.values()), what)
    leaves = []
    for i, leaf in enumerate(wanted):
        shape = (run.slots.num_slots, *leaf.shape)
        array = np.broadcast_to(np.zeros((), leaf.dtype), shape)
        if i in names:
            array = arrays[names[i]]
        if (array.shape, array.dtype) != (shape, leaf.dtype):
            raise UserError(
                f"{what}: {names[i]} is {array.dtype} {array.shape}, but its "
                f"configuration asks for {leaf.dtype} {shape}: the archive was "
                f"changed, or is of other code. Use {_made_by(archive.manifest)}."
            )
        leaves.append(array)
    if set(names) - set(range(len(wanted))):
        raise ValueError(f"{run.stage.name} has no such leaves")
    if digests.of_arrays(arrays.values()) != entry["sha256"]:
        raise ValueError(f"the arrays of {run.stage.name} are not those written")
    return jax.tree.unflatten(structure, leaves)
