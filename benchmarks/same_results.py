"""Whether a change of the code changes any result: every recipe, bit for bit.

    python -m benchmarks.same_results --against=REVISION [--only=REGEX] [--jobs=N]
        [--rename=OLD=NEW ...] [--ignore=REGEX ...] [--preset=demo] [--num_steps=N]

Trains every method, and some composed ones, for a few updates on small data, in the
working tree and in a checkout of REVISION. It compares the final states of all stages
and the evaluations' returns, or the actions where there is no environment, bit by bit.
Leaves are matched by name, STAGE/PATH such as `sarsa/critic.params.Dense_0.kernel`.
Exit code 1: something differs.

Results hold for one machine and one set of versions. Those of REVISION are kept (see
`--cache`), and trained again on another machine or with other versions. Programs are
compiled as runs compile them: with less optimization the compiler rounds equal
arithmetic differently where a program's instructions come in another order.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import same_results_worker as worker
from offjax import cache
from offjax.cli import command as cli
from offjax.devices.compilation import machine
from offjax.errors import UserError

FLAGS = flags.FLAGS

ROOT = Path(__file__).parents[1]
GROUP = 12
"""Cases that one process trains: each keeps its programs in memory."""
VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy", "chex")
VARIABLES = {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "2",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "OFFJAX_OFFLINE": "1",
}  # fmt: skip
"""Equal on both sides, or the same arithmetic may round differently."""

Leaves = Mapping[str, np.ndarray]


def compare(
    old: Leaves,
    new: Leaves,
    renames: Sequence[tuple[str, str]] = (),
    ignored: Sequence[str] = (),
) -> list[str]:
    """What differs between the leaves of two sides, a line each; [] if nothing does.

    Args:
      old: name → array.
      new: likewise.
      renames: (regex, replacement) pairs, applied in turn to the names of `old`.
      ignored: regexes of names that one side alone may have; leaves of both sides are
        compared all the same.

    Raises:
      UserError: renames give two leaves one name.
    """
    renamed = {}
    for name, leaf in old.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise UserError(f"--rename gives two old leaves the name {name!r}.")
        renamed[name] = leaf
    found = []
    for name in dict.fromkeys([*renamed, *new]):
        if name in renamed and name in new:
            found += _difference(name, renamed[name], new[name])
        elif not any(re.search(pattern, name) for pattern in ignored):
            found.append(f"only in {'old' if name in renamed else 'new'}: {name}")
    return found


def _difference(name: str, old: np.ndarray, new: np.ndarray) -> list[str]:
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return [f"{name}: {old.dtype}{list(old.shape)}, {new.dtype}{list(new.shape)}"]
    changed = np.count_nonzero((_bytes(old) != _bytes(new)).any(axis=1))
    if not changed:
        return []
    with np.errstate(invalid="ignore"):
        gaps = np.abs(old.astype(np.float64) - new.astype(np.float64))
    largest = np.max(gaps, initial=0.0)  # NaN where one is found
    return [f"{name}: up to {largest:.3g} apart, {changed} of {old.size} numbers"]


def _bytes(leaf: np.ndarray) -> np.ndarray:
    """The bytes of each number, [N, bytes]: they tell −0 from 0, and NaN equals NaN."""
    return np.ascontiguousarray(leaf).reshape(-1, 1).view(np.uint8)


@contextlib.contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """A worktree of `revision` under `folder`, for as long as the context lasts."""
    path = folder / "old"
    _git("worktree", "add", "--detach", str(path), revision)
    try:
        yield path
    finally:
        _git("worktree", "remove", "--force", str(path))


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two checkouts, and the results that it gave.

    Attributes:
      name: "old" or "new".
      code: folder of the checkout.
      results: folder of CASE.npz, and CASE.error of those that failed.
      script: the worker, outside both checkouts.
    """

    name: str
    code: Path
    results: Path
    script: Path

    def cases(self) -> list[str]:
        """All cases that it can train."""
        path = self.results / "methods.json"
        if not path.exists():
            problem = self._run("list", str(path))
            if problem:
                raise UserError(f"{self.name} lists no methods: {problem}")
        return worker.cases(json.loads(path.read_text()))

    def train(self, cases: Sequence[str], preset: str, num_steps: int) -> None:
        """Trains those of the cases that have no results yet, in one process."""
        cases = [case for case in cases if not self._file(case, "npz").exists()]
        if not cases:
            return
        for case in cases:
            self._file(case, "error").unlink(missing_ok=True)
        problem = self._run("train", str(self.results), preset, str(num_steps), *cases)
        for case in cases:
            if not any(self._file(case, end).exists() for end in ("npz", "error")):
                self._file(case, "error").write_text(problem or "no result")

    def leaves(self, case: str) -> Leaves | str:
        """The case's leaves, or why there are none."""
        path = self._file(case, "npz")
        if not path.exists():
            return self._file(case, "error").read_text().strip()
        with np.load(path) as file:
            return dict(file)

    def _file(self, case: str, end: str) -> Path:
        return self.results / f"{case}.{end}"

    def _run(self, *arguments: str) -> str:
        """Runs the worker on this side's code; what went wrong, or ""."""
        programs = cache.root() / "same_results" / "programs" / machine()
        variables = VARIABLES | {
            "PYTHONPATH": str(self.code),
            "JAX_COMPILATION_CACHE_DIR": str(programs),
        }
        done = subprocess.run(
            [sys.executable, str(self.script), *arguments],
            cwd=self.script.parent,
            env=os.environ | variables,
            stdout=sys.stderr,
            stderr=subprocess.PIPE,
            text=True,
        )
        if not done.returncode:
            return ""
        return f"exit code {done.returncode}: {done.stderr.strip()[-2000:]}"


def kept(folder: Path, commit: str, preset: str, num_steps: int) -> Path:
    """Folder of a commit's results with these settings on this machine."""
    settings = [worker.VERSION, preset, num_steps, VARIABLES, machine()]
    settings += [importlib.metadata.version(name) for name in VERSIONS]
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    path = folder / commit / digest[:12]
    path.mkdir(parents=True, exist_ok=True)
    return path


def verdict(
    case: str, old: Leaves | str, new: Leaves | str, differences: Sequence[str]
) -> list[str]:
    """The table's lines of a case."""
    failed = [
        f"{name} failed: {found.splitlines()[-1]}"
        for name, found in (("old", old), ("new", new))
        if isinstance(found, str)
    ]
    details = failed or list(differences)
    if details:
        shown = details[: FLAGS.lines or None]
        more = len(details) - len(shown)
        shown += [f"... and {more} more"] if more else []
        return [f"DIFFERS  {case}", *(f"         {line}" for line in shown)]
    stages = collections.Counter(name.split("/")[0] for name in new)
    counts = ", ".join(f"{stage} {count}" for stage, count in stages.items())
    return [f"equal    {case:52} leaves: {counts}"]


def renamings() -> list[tuple[str, str]]:
    """`--rename`, checked."""
    found = []
    for text in FLAGS.rename:
        pattern, equals, replacement = text.rpartition("=")
        if not (equals and pattern):
            raise UserError(
                f"--rename={text}: give OLD=NEW, a regex and what it becomes."
            )
        found.append((pattern, replacement))
    return found


def judge(old: Side, new: Side, cases: Sequence[str]) -> int:
    """Trains the cases on both sides and prints what differs; how many cases do."""
    renames, wrong = renamings(), 0
    groups = [cases[i : i + GROUP] for i in range(0, len(cases), GROUP)]

    def train(group: Sequence[str]) -> Sequence[str]:
        for side in (old, new):
            side.train(group, FLAGS.preset, FLAGS.num_steps)
        return group

    with concurrent.futures.ThreadPoolExecutor(FLAGS.jobs) as pool:
        for group in pool.map(train, groups):
            for case in group:
                before, after = old.leaves(case), new.leaves(case)
                differences: list[str] = []
                if not isinstance(before, str) and not isinstance(after, str):
                    differences = compare(before, after, renames, FLAGS.ignore)
                lines = verdict(case, before, after, differences)
                wrong += not lines[0].startswith("equal")
                print("\n".join(lines), flush=True)
    return wrong


def selected(old: Side, new: Side) -> tuple[list[str], list[str]]:
    """The cases of both sides that `--only` takes, and a line for each of one side."""
    cases = {side.name: side.cases() for side in (old, new)}
    every = dict.fromkeys(cases["old"] + cases["new"])
    taken = [case for case in every if re.search(FLAGS.only, case)]
    if not taken:
        raise UserError(f"--only={FLAGS.only} takes none of {', '.join(every)}.")
    alone = [
        f"DIFFERS  {case}\n         only in {name}"
        for name, other in (("old", "new"), ("new", "old"))
        for case in taken
        if case in cases[name]
        and case not in cases[other]
        and not any(re.search(pattern, case) for pattern in FLAGS.ignore)
    ]
    return [c for c in taken if all(c in found for found in cases.values())], alone


def main(argv: list[str]) -> None:
    """Prints a line for each case; exit code 1 if any differs."""
    del argv
    commit = _git("rev-parse", "--verify", f"{FLAGS.against}^{{commit}}")
    folder = Path(FLAGS.cache) if FLAGS.cache else cache.root() / "same_results"
    with tempfile.TemporaryDirectory(prefix="offjax-same-results-") as place:
        temporary = Path(place)
        script = Path(shutil.copy(worker.__file__, temporary / "worker.py"))
        results = temporary / "new"
        results.mkdir()
        with checkout(commit, temporary) as code:
            before = kept(folder, commit, FLAGS.preset, FLAGS.num_steps)
            old = Side("old", code, before, script)
            new = Side("new", ROOT, results, script)
            cases, alone = selected(old, new)
            wrong = judge(old, new, cases) + len(alone)
    print("\n".join([*alone, f"{len(cases) + len(alone) - wrong} equal, {wrong} not"]))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    flags.DEFINE_string("against", None, "Revision to compare with.", required=True)
    flags.DEFINE_string("only", "", "Regex of METHOD@WORLD; the others are left out.")
    flags.DEFINE_integer("jobs", 1, "Processes at a time.", 1)
    flags.DEFINE_multi_string("rename", [], "OLD=NEW: regex on the old leaves' names.")
    flags.DEFINE_multi_string("ignore", [], "Regex of leaves that one side may lack.")
    flags.DEFINE_string("preset", "demo", "Preset on both sides.")
    flags.DEFINE_integer("num_steps", 0, "Updates a stage; 0: as each case needs.", 0)
    flags.DEFINE_integer("lines", 10, "Differences shown of a case; 0: all.", 0)
    flags.DEFINE_string("cache", "", "Folder of kept results of old revisions.")
    cli.run(main)
