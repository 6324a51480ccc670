"""One measurement of benchmarks.gpu, in a process of its own.

    python -m benchmarks.gpu_worker '{"kind": "training", …}'

It prepares, which compiles, says that it is ready, waits for a line, measures, and
prints what it found as JSON in its last line.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

import jax

from benchmarks import harness
from offjax.devices.layout import choose_layout, prepare_host_devices
from offjax.errors import UserError
from offjax.runner import memory

Result = dict[str, Any]
Work = Callable[[], Result]
LACKS = (UserError, jax.errors.JaxRuntimeError, MemoryError)
"""How memory that is not there is told."""


def _training(job: dict[str, Any], seeds: int, **more: Any) -> harness.Training:
    chosen = {"preset": job["preset"], "rows": job["rows"]} | more
    if job.get("precision"):
        chosen["matmul_precision"] = job["precision"]
    return harness.Training(job["stage"], seeds, overrides=_overrides(job), **chosen)


def _need(job: dict[str, Any]) -> memory.Need:
    return harness.needed(job["stage"], job["rows"], _overrides(job), job["preset"])


def _overrides(job: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(values) for name, values in job["overrides"].items()}


def _timed(training: harness.Training, job: dict[str, Any]) -> Result:
    """Seed-steps per second, their share of the peak of the same turn, and costs."""
    limit = harness.peak(job["seconds"] / 3)
    updates = training.updates_in(job["seconds"])
    rates = [training.rate(updates) for _ in range(job["rounds"])]
    rate = harness.Rate.of(rates)
    return {
        "rate": rate._asdict(),
        "share of peak": training.share(rate.median, limit),
        "peak": limit,
        "layout": training.layout,
        "compile seconds": training.compile_seconds,
        "bytes per seed": training.bytes_per_seed,
    }


def rates(job: dict[str, Any]) -> Work:
    """A stage at several numbers of seeds; where they do not fit, why.

    All are compiled before the work, but where each needs the device for itself.
    """
    need = _need(job)

    def built(seeds: int) -> harness.Training:
        memory.require(need, choose_layout(seeds), seeds)
        return _training(job, seeds)

    before: dict[int, harness.Training] = {}
    for seeds in () if job["alone"] else job["counts"]:
        with contextlib.suppress(*LACKS):  # `cell` tries again, and tells
            before[seeds] = built(seeds)
    harness.peak(0.01)  # compiles its product

    def cell(seeds: int) -> Result:
        try:
            training = before.pop(seeds) if seeds in before else built(seeds)
            return _timed(training, job)
        except LACKS as error:
            return {"failed": str(error)}

    return lambda: {str(seeds): cell(seeds) for seeds in job["counts"]}


def nine_datasets(job: dict[str, Any]) -> harness.Training:
    """Nine datasets × seeds of one method as one program."""
    return _training(job, 9 * job["seeds"], datasets=9)


def column(job: dict[str, Any]) -> Work:
    """Nine datasets in one program, beside nine programs in turn."""
    together, alone = nine_datasets(job), _training(job, job["seeds"])
    harness.peak(0.01)

    def work() -> Result:
        found = {"together": _timed(together, job), "in turn": _timed(alone, job)}
        rate, other = (found[name]["rate"]["median"] for name in found)
        steps = 9 * job["seeds"] * 1e6
        return found | {
            "ratio": rate / other,
            "minutes for 1M steps, together": steps / rate / 60,
            "minutes for 1M steps, in turn": steps / other / 60,
        }

    return work


def flags(job: dict[str, Any]) -> Work:
    """Rate of a stage, and whether a second training ends in the same states."""
    first, second = (_training(job, job["seeds"]) for _ in range(2))
    harness.peak(0.01)

    def work() -> Result:
        states = []
        for training in (first, second):
            training.seconds(job["updates"])
            states.append(harness.digest(training.states()))
        return _timed(first, job) | {"equal again": states[0] == states[1]}

    return work


def run(job: dict[str, Any]) -> Work:
    """A run through `offjax.train`: its states; or that it was stopped, and saved."""
    import offjax
    from offjax.runner import interrupts

    data = harness.random_rows(job["rows"])
    settings = {name: value[0] for name, value in job["overrides"].items()}
    steps = {"num_steps": job["updates"]} | settings
    request = offjax.recipe(job["stage"], job["preset"], **steps)

    def work() -> Result:
        if job["stop"]:
            interrupts.request()  # it stops after its first chunk
        try:
            done = offjax.train(
                request, data, num_seeds=job["seeds"], runs_dir=job["runs_dir"],
                resume=job["resume"], quiet=True,
            )  # fmt: skip
        except interrupts.Interrupted:
            return {"stopped": True}
        return {"stopped": False, "states": harness.digest(done.states)}

    return work


def evaluated(job: dict[str, Any]) -> Work:
    """A run with evaluations, each while the next chunk trains or before it."""
    import offjax
    from offjax.catalog.load import known_spec
    from offjax.datasets import stored

    spec = known_spec(job["dataset"])
    assert spec is not None
    data = next(iter(stored.synthetic(spec, job["rows"])))
    request = offjax.recipe(job["stage"], job["preset"], num_steps=job["updates"])

    def work() -> Result:
        done = offjax.train(
            request, data, num_seeds=job["seeds"], runs_dir=job["runs_dir"], quiet=True,
            eval_every=job["eval_every"], eval_episodes=job["episodes"],
            eval_behind=job["behind"], reuse_stages=False,
        )  # fmt: skip
        record = done.folder.record
        if record["evaluation_seconds"] == 0:
            raise UserError(f"{job['dataset']} cannot be evaluated here.")
        compiled = record["compile_seconds"]
        return {
            "seconds": record["duration_seconds"] - compiled,
            "training seconds": record["training_seconds"],
            "evaluation seconds": record["evaluation_seconds"],
            "compile seconds": compiled,
        }

    return work


def counted(job: dict[str, Any]) -> Work:
    """Bytes that a run counts with beforehand, the compiler's and the device's own.

    The device's is the most that this process ever had there; CPUs count none.
    """
    training, need = _training(job, job["seeds"]), _need(job)
    layout = choose_layout(job["seeds"])
    slots = memory.DEVICE_COPIES[layout.kind] * layout.per_device
    estimated = need.data + slots * need.slot

    def work() -> Result:
        training.seconds(job["updates"])
        needed = training.program_bytes()
        peak = (layout.devices[0].memory_stats() or {}).get("peak_bytes_in_use")
        return {
            "estimated": estimated,
            "of the compiler": needed["arrays"],
            "temporary": needed["temporary"],
            "peak of the device": peak,
            "measured / estimated": (peak or needed["arrays"]) / estimated,
        }

    return work


KINDS: dict[str, Callable[[dict[str, Any]], Work]] = {
    "training": rates,
    "precision": rates,
    "column": column,
    "flags": flags,
    "resume": run,
    "evaluation": evaluated,
    "memory": counted,
}


def main(text: str) -> None:
    """Does the job that is written as JSON."""
    prepare_host_devices(None)
    job = json.loads(text)
    work = KINDS[job["kind"]](job)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(work()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
