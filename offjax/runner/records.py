"""The files of a run's folder, and how it is found again.

Rows are on disk before the checkpoint of their step is, so that a killed run is cut
back to its checkpoint and goes on as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime
import hashlib
import io
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from offjax import locks
from offjax.devices import hosts
from offjax.errors import UserError
from offjax.runner.options import Options

SCHEMA = 1
EVALUATIONS = "evaluations"
WAVES = "waves"
RESERVE = 20_000_000  # bytes of disk that a checkpoint leaves free
HEADERS = {
    "metrics.csv": ["step", "seed", "variant", "name", "value"],
    "scores.csv": [
        "method", "variant", "dataset", "seed", "step", "episodes",
        "return_mean", "return_std", "score",
    ],
    "episodes.csv": ["variant", "seed", "step", "episode", "return", "length"],
}  # fmt: skip
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "gymnasium")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError into advice that names the folder."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {path}: {error.strerror or error}. Free space there, "
            "make it writable, or choose another place with --runs_dir; what was saved "
            "before is whole, and --resume continues from it."
        ) from error


def require_space(folder: Path, size: int) -> None:
    """Raises `UserError` if `size` bytes and a little more do not fit the disk."""
    with writing(folder):
        free = shutil.disk_usage(folder).free
    if free < size + RESERVE:
        raise UserError(
            f"{folder} has {free / 1e6:,.0f} MB free, and a checkpoint needs "
            f"{size / 1e6:,.0f} MB (and {RESERVE / 1e6:,.0f} MB to spare). Free space "
            "there and go on with --resume; what was saved before is whole."
        )


def write_json(path: Path, content: Any) -> None:
    """Writes atomically, on the first host: readers see the old file or the new one."""
    _replace(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def _replace(path: Path, text: str) -> None:
    if not hosts.is_writer():
        return
    with writing(path.parent):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            temporary.write_text(text)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
      UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist: {path.parent} is not a run."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error


def digest(content: Any) -> str:
    """Hash of a JSON-able value, independent of the order of keys: 64 hex digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """One run on disk."""

    path: Path

    @staticmethod
    def create(
        runs_dir: Path, method: str, dataset: str, config_hash: str
    ) -> RunFolder:
        """A new folder `<runs_dir>/<method>/<dataset>/<time>-<hash>`."""
        now = datetime.datetime.now(datetime.UTC)
        while True:
            name = f"{now:%Y%m%d-%H%M%S}-{config_hash[:8]}"
            path = runs_dir / method / dataset / name
            with writing(runs_dir), contextlib.suppress(FileExistsError):
                path.mkdir(parents=True)
                break
            now += datetime.timedelta(seconds=1)
        folder = RunFolder(path)
        folder.begin()
        return folder

    def begin(self) -> None:
        """Makes the folder, if it is not there, with tables that have no rows."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        for file in HEADERS:
            self.rewrite(file, [])

    def append(self, file: str, rows: Sequence[Sequence[Any]]) -> None:
        """Appends rows (on the first host), and has them on disk when it returns."""
        if not hosts.is_writer():
            return
        with writing(self.path), (self.path / file).open("a") as out:
            out.write(_csv(rows))
            out.flush()
            os.fsync(out.fileno())

    def cut_back(self, step: int) -> None:
        """Drops rows beyond `step`, and a last line that was half written."""
        for file, header in HEADERS.items():
            column, path = header.index("step"), self.path / file
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            kept = [",".join(header) + "\n"]
            for line, row in zip(lines[1:], csv.reader(lines[1:]), strict=False):
                whole = line.endswith("\n") and len(row) == len(header)
                if whole and int(row[column]) <= step:
                    kept.append(line)
            _replace(path, "".join(kept))

    def rewrite(self, file: str, rows: Sequence[Sequence[Any]]) -> None:
        """Replaces all rows of a file, atomically."""
        _replace(self.path / file, _csv([HEADERS[file], *rows]))

    def working(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the run is worked on by this process, as `record` tells others."""
        if not hosts.is_writer():
            return contextlib.nullcontext()
        return locks.held(self.path / locks.RUNNING)

    @property
    def config(self) -> dict[str, Any]:
        """Content of config.json."""
        return read_json(self.path / "config.json")

    @property
    def record(self) -> dict[str, Any]:
        """Content of run.json; `status` is "killed" where its process is gone."""
        found = read_json(self.path / "run.json")
        return found | {"status": locks.status(self.path, found.get("status", ""))}


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def find_runs(runs_dir: Path, method: str, dataset: str) -> list[RunFolder]:
    """Runs of a method on a dataset that have a record, newest first."""
    parent = runs_dir / method / dataset
    found = [p.parent for p in parent.glob("*/run.json")]
    return [RunFolder(p) for p in sorted(found, key=lambda p: p.name, reverse=True)]


def last_scores(folder: Path) -> dict[tuple[str, str], float]:
    """(variant, seed) → score at the last step of a folder's scores.csv."""
    with (folder / "scores.csv").open() as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: int(row["step"]))
    return {(row["variant"], row["seed"]): float(row["score"]) for row in rows}


def environment() -> dict[str, Any]:
    """Versions and commit, for run.json."""
    versions = {name: _version(name) for name in ("offjax", *PACKAGES)}
    versions["python"] = platform.python_version()
    return {"versions": versions, "commit": _commit()}


def processor() -> str:
    """The kind of processor: on another one XLA may make another program.

    Family and model are there on Linux alone.
    """
    lines = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    pairs = [re.split(r"\s*:\s*", line, maxsplit=1) for line in lines]
    facts = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    names = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    return " ".join([platform.machine(), *(facts[n] for n in names if n in facts)])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _commit() -> str | None:
    """Commit of the checkout that the code runs from, `+` if it is changed."""
    here = Path(__file__).resolve().parent

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def open_folder(
    config: dict[str, Any], config_hash: str, options: Options
) -> tuple[RunFolder, bool]:
    """The folder, and whether it is one that is resumed; the same on all hosts.

    With `options.resume` it is that of the newest unfinished run of the same
    configuration, else of the newest finished one.

    Raises:
      UserError: an interrupted run of another configuration is there with progress to
        go on from, or the folder cannot be written.
    """
    path, resumed = hosts.agree(lambda: _open(config, config_hash, options))
    return RunFolder(Path(path)), resumed


def _open(
    config: dict[str, Any], config_hash: str, options: Options
) -> tuple[str, bool]:
    method, dataset = config["method"], config["dataset"]
    runs_dir = Path(options.runs_dir)
    if options.resume:
        known = find_runs(runs_dir, method, dataset)
        found = _to_resume(known, config, config_hash, alone=not options.sweep)
        if found is not None:
            return str(found.path), True
        if not options.quiet and not options.sweep:  # jobs of sweeps ask for it always
            print(
                f"--resume: no unfinished run of {method} on {dataset} in "
                f"{runs_dir}; a new one begins."
            )
    folder = RunFolder.create(runs_dir, method, dataset, config_hash)
    write_json(folder.path / "config.json", config)
    return str(folder.path), False


def _to_resume(
    known: Sequence[RunFolder], config: dict[str, Any], config_hash: str, alone: bool
) -> RunFolder | None:
    same = [r for r in known if r.record.get("config_hash") == config_hash]
    unfinished = [r for r in same if r.record["status"] != "finished"]
    if unfinished or same:
        return (unfinished or same)[0]
    others = [r for r in known if _has_progress(r)]
    if not others or not alone:  # a sweep's other settings are under way beside it
        return None
    changed = "; ".join(_differences(others[0].config, config))
    raise UserError(
        f"--resume: the unfinished run {others[0].path} has another configuration "
        f"({changed}). Give its flags again to continue it, or omit --resume to begin "
        "a new run."
    )


def _has_progress(run: RunFolder) -> bool:
    """Whether a run was interrupted, or killed, after a checkpoint."""
    if run.record["status"] in ("finished", "failed"):
        return False
    folders = (run.path, *run.path.glob(f"{WAVES}/*"))
    return any(
        p.name.isdecimal() for folder in folders for p in folder.glob("checkpoints/*")
    )


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Entries in which two configurations differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for name in sorted({*old, *new})
            for difference in _differences(
                old.get(name), new.get(name), f"{path}.{name}" if path else name
            )
        ]
    same = old == new or (isinstance(new, tuple) and list(new) == old)
    return [] if same else [f"{path} is {old} there, {new} here"]
