"""What benchmarks share: the machine, its peak, trainings as a run compiles them."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from offjax import methods
from offjax.datasets import joined, language
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.runner import chunks, memory, programs
from offjax.runner.options import Options
from offjax.runner.records import environment
from offjax.runner.settings import expand
from offjax.runner.stages import StageRun, models_of, plan_stages, stage_data, template
from offjax.types import Stage

OBSERVATION, ACTION = 17, 6  # HalfCheetah's


class Rate(NamedTuple):
    """Several timings of the same: their median and range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Rate:
        """Of at least one timing."""
        return cls(statistics.median(values), min(values), max(values))


def machine() -> dict[str, Any]:
    """Processor, cores, devices, versions, commit and load."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [x.split(":")[1].strip() for x in lines if x.startswith("model name")]
    device = jax.devices()[0]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "device": device.device_kind,
        "platform": device.platform,
        "devices": len(jax.devices()),
        "load": round(os.getloadavg()[0], 2),
        **environment(),
    }


def opening() -> dict[str, Any]:
    """Tells what numbers are measured on; `machine()`, to go with them."""
    found = machine()
    devices = f"{found['devices']} × {found['device']}"
    if found["platform"] == "cpu":
        devices = "no accelerator at hand: CPU numbers"
    print(
        f"{found['processor']}, {found['cores']} cores (load {found['load']}); "
        f"{devices}; jax {found['versions']['jax']}, commit {found['commit']}",
        flush=True,
    )
    return found


def write(path: str | None, result: Mapping[str, Any]) -> None:
    """Writes a benchmark's numbers as JSON, with the machine that they are of.

    Args:
      path: file; None: nothing is written.
      result: the numbers; "machine", as it was at the start, is added where missing.

    Raises:
      UserError: the file cannot be written.
      ValueError: a number that JSON does not have.
    """
    if not path:
        return
    content = {"machine": result.get("machine") or machine(), **result}
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    whole = Path(f"{path}.part")  # so that a kill leaves the old file or the new one
    try:
        whole.write_text(text)
        whole.replace(path)
    except OSError as error:
        raise UserError(f"--json={path} cannot be written: {error}.") from error


def peak(seconds: float = 0.5) -> float:
    """FLOP/s of all devices together at one chain of float32 matrix products each."""
    devices = jax.local_devices()
    size = 256 if devices[0].platform == "cpu" else 8192
    factor = np.random.default_rng(0).normal(size=(size, size)) / size**0.5

    def chain(count: Any, x: Any) -> Any:
        return jax.lax.fori_loop(0, count, lambda _, y: x @ y, x)

    run = jax.pmap(chain, devices=devices)
    x = np.broadcast_to(factor.astype(np.float32), (len(devices), size, size))

    active = min(len(devices), len(os.sched_getaffinity(0)))

    def timed(count: int) -> float:
        counts = np.where(np.arange(len(devices)) < active, count, 0).astype(np.int32)
        begin = time.perf_counter()
        jax.block_until_ready(run(counts, x))
        return time.perf_counter() - begin

    timed(1)
    count = max(1, round(10 * seconds / max(timed(10), 1e-9)))
    spent = min(timed(count) for _ in range(3))
    return 2 * size**3 * count * active / spent


@functools.cache
def _products() -> Callable[[np.ndarray, np.ndarray], Any]:
    """On each device, so many products of a matrix in a chain."""

    def chain(count: Any, x: Any) -> Any:
        return jax.lax.fori_loop(0, count, lambda _, y: y @ x, x)

    return jax.pmap(chain, devices=jax.local_devices())


def digest(tree: Any) -> str:
    """Equal for arrays that are equal in every bit."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        found.update(np.ascontiguousarray(leaf).data)
    return found.hexdigest()


class UnknownFlopsError(ValueError):
    """A program whose operations depend on what it computes."""


def matmul_flops(fn: Callable[..., Any], *args: Any) -> int:
    """Floating-point operations of the products and convolutions of one call.

    Loops count as often as they run, zeros that convolutions pad or dilate with count
    as numbers.

    Raises:
      UnknownFlopsError: there are products in a loop whose length is not known before
        it runs, or in branches that differ in their operations.
    """
    return _flops(jax.make_jaxpr(fn)(*args).jaxpr)


def _flops(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        shapes = [x.aval.shape for x in equation.invars]
        out, params = equation.outvars, equation.params
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            inner = int(np.prod([shapes[0][axis] for axis in contracted]))
            total += 2 * inner * int(np.prod(out[0].aval.shape))
        elif equation.primitive.name == "conv_general_dilated":
            features = shapes[1][params["dimension_numbers"].rhs_spec[0]]
            inner = int(np.prod(shapes[1])) // features
            total += 2 * inner * int(np.prod(out[0].aval.shape))
        else:
            total += _inner_flops(equation.primitive.name, params)
    return total


def _inner_flops(primitive: str, params: Mapping[str, Any]) -> int:
    """Of the programs inside an operation, such as a loop's body."""
    if primitive == "cond":
        branches = {_flops(branch.jaxpr) for branch in params["branches"]}
        if len(branches) > 1:
            raise UnknownFlopsError("branches differ in their products")
        return branches.pop()
    inner = [getattr(value, "jaxpr", value) for value in params.values()]
    found = sum(_flops(x) for x in inner if hasattr(x, "eqns"))
    if primitive == "while" and found:
        raise UnknownFlopsError("products in a loop of unknown length")
    return params.get("length", 1) * found


def random_rows(rows: int) -> Dataset:
    """Rows of HalfCheetah's shape in episodes of a thousand, each described in tens."""
    rng = np.random.default_rng(0)
    timeouts = np.arange(rows) % 1000 == 999
    timeouts[-1] = True
    dataset = Dataset.from_arrays(
        rng.normal(size=(rows, OBSERVATION)).astype(np.float32),
        rng.uniform(-1, 1, (rows, ACTION)).astype(np.float32),
        rng.normal(size=rows).astype(np.float32),
        np.zeros(rows, bool),
        timeouts,
        rng.normal(size=(rows, OBSERVATION)).astype(np.float32),
        id="benchmark/random-v0",
        identity=f"{rows} random rows",
    )
    starts = np.arange(0, rows - 99, 100)
    words = np.arange(len(starts)) % 10
    names = tuple(f"instruction {i}" for i in range(10))
    spans = language.Annotations(starts, starts + 100, words, words, names, names)
    return language.annotate(dataset, spans)


def stage_named(runs: Sequence[StageRun], name: str) -> StageRun:
    """One stage of several.

    Raises:
      UserError: there is none of that name.
    """
    found = {run.stage.name: run for run in runs}
    if name not in found:
        raise UserError(f"There is no stage {name!r}: {', '.join(found)}.")
    return found[name]


def needed(
    method: str,
    rows: int,
    overrides: Mapping[str, tuple] | None = None,
    preset: str = "paper",
) -> memory.Need:
    """Bytes that a run counts with for a stage, see `Training` for the arguments."""
    name, _, wanted = method.partition(":")
    data = random_rows(rows)
    (job,) = expand(methods.build(name, None, preset), dict(overrides or {}))
    runs = plan_stages(job, data, Options(num_seeds=1))
    run = stage_named(runs, wanted or runs[0].stage.name)
    for reads in (stage_named(runs, name) for name in run.stage.reads):
        reads.states = template(reads, stage_data(reads, data, {}), {})
    upstream = models_of(runs, run.slots, run.stage.reads, 1)
    arrays = stage_data(run, data, upstream)
    return memory.need_of(run, arrays, template(run, arrays, upstream), upstream)


def begin(
    runs: Sequence[StageRun],
    run: StageRun,
    data: Dataset,
    num_seeds: int,
    datasets: int = 1,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], programs.Reads]:
    """A stage's slots and shared inputs, begun; the inputs of one slot; how it reads.

    As `offjax.runner.loop` has them. Several `datasets` are copies of one, and share
    the seeds.
    """
    stage, layout = run.stage, run.layout
    upstream = models_of(runs, run.slots, stage.reads, num_seeds)
    arrays = stage_data(run, data, upstream)
    inputs = {"config": run.configs, "upstream": upstream}
    one = jax.tree.map(lambda x: np.asarray(x)[0], inputs) | {"data": arrays}
    reads, rows = programs.reads_of(stage), arrays
    if stage.view.per_seed:
        inputs["data"], rows = arrays, ()
        one["data"] = jax.tree.map(lambda x: x[0], arrays)
    elif datasets > 1:
        store = joined.join([arrays] * datasets)
        which = np.repeat(np.arange(datasets), num_seeds // datasets)
        inputs["data"] = jax.tree.map(lambda x: x[which], store.parts)
        rows = store.rows

        def reads(slot: Any, shared: Any) -> Any:
            return joined.part(arrays, shared["data"], slot["data"])

    slots = {name: layout.shard(tree) for name, tree in inputs.items()}
    shared = {"data": layout.replicate(rows)}
    seeds = layout.shard(np.asarray(run.slots.seeds, np.uint32))
    init = programs.init_program(stage, layout, reads)
    slots["state"] = init({**slots, "seed": seeds}, shared)
    return slots, shared, one, reads


class Training:
    """A stage of a method, for several seeds, in the programs of a run.

    Attributes:
      seed_steps: steps of one seed in an update: TD3+BC's are `policy_freq`.
      flops: of the products of a seed-step; None where they cannot be told.
      bytes_per_seed: of the state.
      compile_seconds: of the program that trains.
      compilations: of it.
      layout: kind of layout that was chosen.
    """

    def __init__(
        self,
        method: str,
        num_seeds: int,
        rows: int = 100_000,
        overrides: Mapping[str, tuple] | None = None,
        preset: str = "paper",
        datasets: int = 1,
        **options: Any,
    ) -> None:
        """Compiles the stage, and takes one update.

        Args:
          method: recipe, or RECIPE:STAGE; by default its first stage. Stages that it
            reads are begun, not trained.
          num_seeds: of the run, shared by the datasets.
          rows: of each dataset.
          overrides: settings → values.
          preset: of the recipe.
          datasets: that are trained on together.
          options: further `Options`.
        """
        name, _, wanted = method.partition(":")
        data = random_rows(rows)
        jobs = expand(methods.build(name, None, preset), dict(overrides or {}))
        assert len(jobs) == 1, "settings that shape the program are programs apart"
        runs = plan_stages(jobs[0], data, Options(num_seeds=num_seeds, **options))
        run = stage_named(runs, wanted or runs[0].stage.name)
        for reads in (stage_named(runs, name) for name in run.stage.reads):
            slots, *_ = begin(runs, reads, data, num_seeds)
            reads.states = reads.layout.gather(slots["state"])
        slots, shared, one, read = begin(runs, run, data, num_seeds, datasets)
        stage, layout = run.stage, run.layout
        state = jax.tree.map(lambda x: x[0], layout.gather(slots["state"]))
        count = run.slots.num_slots
        blank = programs.blank_metrics(stage, state, one["data"], one)
        sums = jax.tree.map(lambda x: np.stack([x] * count), blank)
        slots["alive"] = layout.shard(np.ones(count, bool))
        slots["sums"] = layout.shard(sums)
        slots["kept"] = jax.tree.map(jnp.copy, slots["state"])
        self._slots, self._shared, self._layout = slots, shared, layout
        self._chunk = programs.chunk_program(stage, layout, reads=read)
        self._step = 0
        self._num_slots = run.slots.num_slots
        self.layout = layout.kind
        self.seed_steps = getattr(stage.config, "policy_freq", 1)
        self.bytes_per_seed = sum(np.asarray(x).nbytes for x in jax.tree.leaves(state))
        self.flops = self._flops(stage, one, state)
        self.seconds(1)
        self.compile_seconds = self._chunk.compile_seconds

    def _flops(self, stage: Stage, one: Mapping[str, Any], state: Any) -> float | None:
        key = jax.random.PRNGKey(0)
        sample = lambda d: stage.view.sample(d, key, stage.config)  # noqa: E731
        batch = jax.eval_shape(sample, one["data"])

        def update(state: Any, batch: Any) -> Any:
            return stage.method.update(state, batch, stage.config, one["upstream"])[0]

        try:
            found = matmul_flops(update, state, batch)
        except UnknownFlopsError:
            return None
        return found / self.seed_steps

    def share(self, rate: float, limit: float) -> float | None:
        """What a rate in seed-steps per second makes of a peak of FLOP/s."""
        return None if self.flops is None else rate * self.flops / limit

    @property
    def compilations(self) -> int:
        """How often the program that trains was compiled."""
        return self._chunk.compilations

    def states(self) -> Any:
        """What was learned so far: NumPy, with leading axis [slots]."""
        return self._layout.gather(self._slots["state"])

    def program_bytes(self) -> dict[str, int]:
        """What the program that trains needs, see `Program.required_bytes`."""
        return self._chunk.required_bytes()

    def seconds(self, updates: int) -> float:
        """Time of so many updates of every slot."""
        end = self._step + updates
        begin = time.perf_counter()
        chunk = chunks.dispatch(
            self._chunk,
            self._layout,
            self._slots,
            self._shared,
            self._step,
            end,
            window=updates,
            closing=True,
        )
        chunk.wait()
        self._step = end
        return time.perf_counter() - begin

    def updates_in(self, seconds: float) -> int:
        """How many updates take about that long."""
        count = 1
        while (spent := self.seconds(count)) < seconds / 4:
            count = max(2 * count, int(count * seconds / 2 / max(spent, 1e-9)))
        return max(1, round(count * seconds / spent))

    def rate(self, updates: int) -> float:
        """Seed-steps per second over so many updates."""
        return self.per_seconds(updates, self.seconds(updates))

    def per_seconds(self, updates: int, seconds: float) -> float:
        """Seed-steps per second of so many updates in that time."""
        return updates * self.seed_steps * self._num_slots / seconds
