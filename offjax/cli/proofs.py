"""Parameters of exported runs, for commands: written, and rows verified by them."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.agents.verdicts import Verdict
    from offjax.leaderboard.store import Run


def writer(
    num_seeds: int, data_dir: str | None, again: bool = True
) -> Callable[[Run, Path], None]:
    """What `leaderboard.export.write` adds parameters with; JAX starts here.

    Args:
      num_seeds: the first so many seeds of each run; 0: all.
      data_dir: root of the datasets, which the runs must have been trained on.
      again: whether an archive that is there is written anew.
    """
    from offjax.agents import archive
    from offjax.catalog.load import load_dataset
    from offjax.runner.run import load_run

    newest: dict[str, object] = {}  # the dataset that was read last

    def add(run: Run, path: Path) -> None:
        if path.is_file() and not again:
            return
        if run.dataset not in newest:
            newest.clear()
            newest[run.dataset] = load_dataset(run.dataset, data_dir, collect=False)
        archive.write(load_run(run.path, newest[run.dataset]), path, num_seeds)  # type: ignore[arg-type]

    return add


def verify(
    runs_dirs: Sequence[str],
    rows: Sequence[str],
    retrain: str | None,
    data_dir: str | None,
) -> None:
    """Prints of each row whether it is true; exit code 1 if one is not.

    Args:
      runs_dirs: folders of exported runs.
      rows: METHOD/DATASET/RUN_ID, where * and ? match; none: all.
      retrain: folder of the runs themselves, one stretch of which is trained again.
      data_dir: root of the datasets.

    Raises:
      UserError: no such row.
    """
    from offjax.agents import replay, verdicts
    from offjax.devices.layout import prepare_host_devices
    from offjax.leaderboard import store

    prepare_host_devices()
    counts = dict.fromkeys(
        (verdicts.VERIFIED, verdicts.CLOSE, verdicts.DIFFERS, verdicts.UNKNOWN), 0
    )

    def tell(name: str, found: Verdict) -> None:
        counts[found.word] += 1
        print(f"{name}: {found}", flush=True)

    for root in map(Path, runs_dirs):
        for folder in store.find(root):
            name = folder.relative_to(root).as_posix()
            if rows and not any(fnmatch.fnmatchcase(name, row) for row in rows):
                continue
            tell(name, replay.verify(folder, data_dir))
            if retrain is not None:
                run = Path(retrain) / name
                tell(f"{name}, training", _trained_again(folder, run, data_dir))
    if not any(counts.values()):
        wanted = ", ".join(rows) or "METHOD/DATASET/RUN_ID"
        raise UserError(
            f"There is no row {wanted} in {', '.join(runs_dirs)}: a row is the path of "
            "a run's folder below --runs_dir."
        )
    print(", ".join(f"{number} {word}" for word, number in counts.items() if number))
    if counts[verdicts.DIFFERS]:
        sys.exit(1)


def _trained_again(folder: Path, path: Path, data_dir: str | None) -> Verdict:
    """What a stretch of a run's training says about the digests of its export."""
    from offjax.agents import archive, retrain, verdicts
    from offjax.catalog.load import load_dataset
    from offjax.runner.run import load_run

    try:
        found = archive.read(folder / archive.FILE)
        dataset = load_dataset(found.dataset.card.id, data_dir, collect=False)
        run = load_run(path, dataset)
    except UserError as error:
        return verdicts.Verdict(verdicts.UNKNOWN, (str(error),))
    recorded = {stage.stage.name: stage.digests for stage in found.stages}
    return retrain.verify(run, recorded)
