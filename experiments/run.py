"""Train a method on a dataset over many seeds.

python -m experiments.run --method=asp --dataset=offjax/budget/t50-smooth-v0
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from absl import flags

from experiments import cli
from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.datasets.dataset import Dataset

_METHOD = flags.DEFINE_string("method", None, "Method, or `list`.")
_POLICY = flags.DEFINE_string("policy", None, "With --method=compose: a method.")
_CRITIC = flags.DEFINE_string("critic", None, "With --method=compose: a critic.")
_IMPROVE = flags.DEFINE_string("improve", None, "With --method=compose: an operator.")
_DATASET = flags.DEFINE_string("dataset", None, "Dataset id, or `list`.")
_PRESET = flags.DEFINE_enum(
    "preset", "small", ["paper", "small", "demo"],
    "Hyperparameters: published, sized for two CPU cores, or for a demonstration.",
)  # fmt: skip
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Number of seeds.")
_SEED = flags.DEFINE_integer("seed", 0, "First seed.")
_NUM_STEPS = cli.define_count("num_steps", None, "Updates of every stage.")
_EVAL_EVERY = cli.define_count(
    "eval_every", 0, "Updates between evaluations of the last stage; 0: at its end."
)
_EVAL_EPISODES = flags.DEFINE_integer("eval_episodes", 20, "Episodes per evaluation.")
_EVAL_CHAINS = flags.DEFINE_integer(
    "eval_chains", 0,
    "Chains of five instructions per evaluation, in scenes with instructions.",
)  # fmt: skip
_EVAL_SEED = flags.DEFINE_integer(
    "eval_seed", 0, "Which set of evaluation episodes; tune on another than you report."
)
_EVAL_BEHIND = flags.DEFINE_enum(
    "eval_behind", "auto", ["auto", "on", "off"],
    "Train on while environments on the host are stepped; the results are the same.",
)  # fmt: skip
_LOG_EVERY = cli.define_count("log_every", 0, "Updates between metrics; 0: auto.")
_CHECKPOINT_EVERY = cli.define_count(
    "checkpoint_every", 0, "Updates between checkpoints; 0: ten per stage."
)
_CHUNK_SECONDS = flags.DEFINE_float(
    "chunk_seconds", 5.0, "Time between two chances to stop and to show progress."
)
_RUNS_DIR = flags.DEFINE_string("runs_dir", "runs", "Where run folders go.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of the datasets.")
_LAYOUT = flags.DEFINE_enum(
    "layout", "auto", ["auto", "map", "vmap"], "Seeds inside a device."
)
_PRECISION = flags.DEFINE_enum(
    "matmul_precision", "default", ["default", "float32", "tf32", "bfloat16"],
    "How matrix products round; default: as the device does it fastest.",
)  # fmt: skip
_PROFILE = flags.DEFINE_string(
    "profile", "", "Folder for a trace of each stage's second chunk, for Perfetto."
)
_RESUME = flags.DEFINE_bool(
    "resume", False, "Continue the newest unfinished run of this configuration."
)
_REUSE = flags.DEFINE_bool(
    "reuse_stages", True, "Take stages that were trained before from the store."
)
_LOG = flags.DEFINE_list("log", [], "Further sinks: tensorboard, wandb.")
_DEVICES = flags.DEFINE_integer(
    "host_devices", None, "CPU devices; one per core by default."
)
_SWEEP = flags.DEFINE_string("sweep", "", "Name of the sweep that this run is part of.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Share the seeds with other hosts."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first host.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of hosts.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this host.")
_CONFIG = cli.declare_config()


def overrides() -> dict[str, tuple]:
    """`--config.` flags and `--num_steps` as name → values."""
    return cli.with_steps(cli.overrides(_CONFIG.value), _NUM_STEPS.value)


def _required(value: str | None, flag: str) -> str:
    if not value:
        raise UserError(f"--{flag} is missing; --{flag}=list prints what there is.")
    return value


def _method() -> str:
    """The method's name; that of a composed one is `policy+critic+operator`."""
    parts = {"policy": _POLICY, "critic": _CRITIC, "improve": _IMPROVE}
    if _METHOD.value == "compose":
        return "+".join(_required(flag.value, name) for name, flag in parts.items())
    given = [name for name, flag in parts.items() if flag.value]
    if given:
        raise UserError(
            f"--{given[0]} goes with --method=compose; to evaluate a trained run with "
            "another operator, use experiments.evaluate --improve."
        )
    return _required(_METHOD.value, "method")


def _check_hosts() -> None:
    """Refuses flags of several hosts without --distributed."""
    for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID):
        if flag.value is not None and not _DISTRIBUTED.value:
            raise UserError(
                f"--{flag.name}={flag.value} goes with --distributed; add it, or omit "
                f"--{flag.name}."
            )


def _print_list() -> bool:
    """Answers --method=list and --dataset=list."""
    from offjax.catalog.load import describe_datasets
    from offjax.methods import METHODS

    if _METHOD.value == "list":
        for name, builder in METHODS.items():
            print(f"{name:24s}{(builder.__doc__ or '').splitlines()[0]}")
    if _DATASET.value == "list":
        print(describe_datasets(_DATA_DIR.value))
    return "list" in (_METHOD.value, _DATASET.value)


def _load(name: str) -> Dataset:
    """The dataset; where it has to be collected, one host does it for all."""
    from offjax.catalog.load import load_dataset
    from offjax.devices import hosts

    if hosts.is_writer():
        dataset = load_dataset(name, _DATA_DIR.value, progress=print)
    hosts.barrier("dataset")
    return dataset if hosts.is_writer() else load_dataset(name, _DATA_DIR.value)


def main(argv: list[str]) -> None:
    """Trains, evaluates, and tells where the run lies."""
    del argv
    from offjax.catalog.load import known_spec
    from offjax.devices import hosts
    from offjax.devices.layout import prepare_host_devices
    from offjax.evaluation import environments
    from offjax.runner import interrupts, sinks
    from offjax.runner.options import Options
    from offjax.runner.train import train
    from offjax.runner.training import Training, check, make_jobs

    if _print_list():
        return
    _check_hosts()
    interrupts.listen(signal.SIGTERM)  # Ctrl-C too, once there is something to save
    max_devices = prepare_host_devices(_DEVICES.value)
    if _DISTRIBUTED.value:
        hosts.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    options = Options(
        num_seeds=_NUM_SEEDS.value,
        seed=_SEED.value,
        eval_every=_EVAL_EVERY.value,
        eval_episodes=_EVAL_EPISODES.value,
        eval_chains=_EVAL_CHAINS.value,
        eval_seed=_EVAL_SEED.value,
        eval_behind=_EVAL_BEHIND.value,
        log_every=_LOG_EVERY.value,
        checkpoint_every=_CHECKPOINT_EVERY.value,
        chunk_seconds=_CHUNK_SECONDS.value,
        runs_dir=_RUNS_DIR.value,
        layout=_LAYOUT.value,
        matmul_precision=_PRECISION.value,
        profile=_PROFILE.value,
        max_devices=max_devices,
        resume=_RESUME.value,
        reuse_stages=_REUSE.value,
        log=tuple(_LOG.value),
        sweep=_SWEEP.value,
    )
    options.validate()
    sinks.check(options.log)
    method = _method()
    name = _required(_DATASET.value, "dataset")
    # Errors here come before data are loaded or collected.
    spec = known_spec(name, _DATA_DIR.value)
    check(method, _PRESET.value, overrides(), name, spec)
    dataset = _load(name)
    if hosts.is_writer():
        print(dataset.card, environments.line(dataset.spec), sep="\n", flush=True)
    jobs = make_jobs(method, _PRESET.value, dataset, overrides())
    planned = [
        Training.of(job, method, _PRESET.value, dataset, options) for job in jobs
    ]
    interrupts.listen()
    for training in planned:
        path = train(training).path
        if hosts.is_writer():
            print(f"run: {path}")


if __name__ == "__main__":
    cli.run(main)
