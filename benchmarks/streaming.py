"""Streamed training beside training in memory: its rate, and data beyond memory.

    python -m benchmarks.streaming [--sections=rate,limit] [--methods=td3_bc,iql]
        [--presets=small,paper] [--rows=20000000] [--held_rows=2000000] [--json=FILE]

Synthetic rows of Hopper's shapes (11 and 3 numbers), stored in a folder that is removed
at the end; 20 million take 2.5 GB. One seed, on as many cores as the process may use.
Every number is of a process of its own. Sections:

    rate    updates per second of training in memory and streamed, on --held_rows, in
            turns: medians of --rounds. Waiting for batches counts, compiling does not.
    limit   a process may have as much memory of its own (RLIMIT_DATA) as training on
            --held_rows in memory takes. Within it, --rows are streamed, and their final
            states compared with those of a process without limit; in memory they fail.
            --cgroup=FOLDER is a control group of memory that this process may write:
            with it the limit counts cached pages of the files, too.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

FLAGS = flags.FLAGS
HELD, WHOLE = "benchmark/held-v0", "benchmark/whole-v0"
Result = dict[str, Any]


def train(job: dict[str, Any]) -> Result:
    """Trains in this process, as `job` says; its rate, memory and states."""
    if "limit" in job:
        _confine(job["limit"], job["cgroup"])
    from offjax.devices.layout import prepare_host_devices

    devices = prepare_host_devices()
    import offjax
    from benchmarks.harness import digest
    from offjax.datasets import stored

    steps = {"num_steps": job["updates"]}
    with _Watch() as watch, tempfile.TemporaryDirectory() as folder:
        run = offjax.train(
            offjax.recipe(job["method"], job["preset"], **steps),
            stored.read(job["dataset"], job["data_dir"]),
            num_seeds=1, stream=job["stream"], max_devices=devices, quiet=True,
            runs_dir=folder, eval_episodes=1,
        )  # fmt: skip
        states = digest(run.states)
        rate = run.folder.record["seed_steps_per_second"]
    return {"rate": rate, "states": states, "bytes": watch.most}


def _confine(limit: int, cgroup: str) -> None:
    """Limits the memory of this process."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if cgroup:
        names = ("memory.max", "memory.limit_in_bytes")  # of versions 2 and 1
        files = [Path(cgroup, name) for name in names]
        next(file for file in files if file.exists()).write_text(str(limit))
        Path(cgroup, "cgroup.procs").write_text(str(os.getpid()))


class _Watch:
    """The most memory of its own that this process has had, as RLIMIT_DATA counts."""

    def __enter__(self) -> _Watch:
        self.most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmData:"):
                    self.most = max(self.most, int(line.split()[1]) * 1024)


def child(job: dict[str, Any], limit: int | None = None) -> Result | None:
    """What `train` finds in a process of its own; None where it failed."""

    if limit is not None:
        job = job | {"limit": limit, "cgroup": FLAGS.cgroup}

    command = [sys.executable, "-m", "benchmarks.streaming", f"--job={json.dumps(job)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        if limit is None:
            raise UserError(f"a training failed: {done.stderr.strip()[-500:]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def rate(data_dir: str) -> Result:
    """Each method at each preset, in memory and streamed."""
    result: Result = {}
    for method in FLAGS.methods:
        for preset in FLAGS.presets:
            job = {"method": method, "preset": preset, "dataset": HELD}
            job |= {"data_dir": data_dir, "stream": False}
            first = child(job | {"updates": 1000})
            assert first is not None
            job["updates"] = max(1000, int(first["rate"] * FLAGS.seconds))
            found: dict[bool, list[float]] = {False: [], True: []}
            states = set()
            for _ in range(FLAGS.rounds):
                for stream, rates in found.items():
                    one = child(job | {"stream": stream})
                    assert one is not None
                    rates.append(one["rate"])
                    states.add(one["states"])
            memory, streamed = (statistics.median(found[s]) for s in (False, True))
            result[f"{method}, {preset}"] = {
                "in memory": found[False], "streamed": found[True],
                "share": streamed / memory, "same states": len(states) == 1,
            }  # fmt: skip
            print(
                f"{method:8} {preset:6} in memory {memory:9,.1f}  streamed "
                f"{streamed:9,.1f} updates/s  {streamed / memory:.1%}  states "
                f"{'equal' if len(states) == 1 else 'DIFFER'}",
                flush=True,
            )
    return result


def limit(data_dir: str) -> Result:
    """More rows than fit, streamed within a limit."""
    result: Result = {}
    for method in FLAGS.methods:
        job = {"method": method, "preset": "small", "data_dir": data_dir}
        job["updates"] = FLAGS.limit_updates
        held = child(job | {"dataset": HELD, "stream": False})
        assert held is not None
        job["dataset"], most = WHOLE, held["bytes"]
        free = child(job | {"stream": True})
        within = child(job | {"stream": True}, most)
        memory = child(job | {"stream": False}, most)
        assert free is not None
        same = within is not None and within["states"] == free["states"]
        result[method] = {
            "limit": most, "without limit": free, "within limit": within,
            "same states": same, "in memory within limit": memory,
        }  # fmt: skip
        print(
            f"{method:8} limit {most / 1e6:,.0f} MB, which holds {FLAGS.held_rows:,} "
            f"rows in memory at {held['rate']:,.1f} updates/s; {FLAGS.rows:,} streamed "
            f"at {within['rate'] if within else float('nan'):,.1f} (without limit "
            f"{free['rate']:,.1f}), states {'equal' if same else 'DIFFER'}; in memory "
            f"{'they fit' if memory else 'they fail'}",
            flush=True,
        )
    return result


def main(_: list[str]) -> None:
    """Stores the rows, prints the numbers and writes them."""
    if FLAGS.job:
        print(json.dumps(train(json.loads(FLAGS.job))))
        return
    from benchmarks.harness import opening, write
    from offjax.catalog.load import known_spec
    from offjax.datasets import stored

    found = {"machine": opening()}
    spec = known_spec("offjax/hopper/medium-v0")
    assert spec is not None
    with tempfile.TemporaryDirectory() as folder:
        rows = {HELD: FLAGS.held_rows}
        if "limit" in FLAGS.sections:
            rows[WHOLE] = FLAGS.rows
        for name, count in rows.items():
            stored.write(name, stored.synthetic(spec, count), folder)
        for section in FLAGS.sections:
            found[section] = {"rate": rate, "limit": limit}[section](folder)
    write(FLAGS.json, found)


if __name__ == "__main__":
    flags.DEFINE_list("sections", ["rate", "limit"], "What to measure.")
    flags.DEFINE_list("methods", ["td3_bc", "iql"], "Methods.")
    flags.DEFINE_list("presets", ["small", "paper"], "Presets, of rate.")
    flags.DEFINE_integer("rows", 20_000_000, "Rows that do not fit.", 1000)
    flags.DEFINE_integer("held_rows", 2_000_000, "Rows that fit.", 1000)
    flags.DEFINE_integer("limit_updates", 20_000, "Updates of limit.", 1)
    flags.DEFINE_string("cgroup", "", "Folder of a control group, of limit.")
    flags.DEFINE_float("seconds", 10.0, "Time of a training of rate, about.")
    flags.DEFINE_integer("rounds", 3, "Turns.", 1)
    flags.DEFINE_string("json", None, "File to write the numbers to.")
    flags.DEFINE_string("job", "", "For the processes of this benchmark itself.")
    cli.run(main)
