"""Trains a method on a dataset over many seeds, and evaluates it.

offjax run --method=iql --dataset=offjax/maze2d/umaze-v0 --num_seeds=8
offjax run --method=iql --dataset=offjax/hopper/medium-v1,offjax/hopper/expert-v1
offjax run --method=iql --config=list
offjax run --method=cfpi --dataset=offjax/maze2d/umaze-v0 --config.log_tau=0.5,1
offjax run --method=compose --policy=bc_mixture --critic=sarsa_iqn
    --improve=best_of_n --dataset=offjax/maze2d/umaze-v0
"""

from __future__ import annotations

import dataclasses
import signal
from typing import TYPE_CHECKING, Any

from absl import flags

from offjax.cli import command as cli
from offjax.cli import hyperparameters, lists, summary
from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.datasets.dataset import Dataset
    from offjax.runner.options import Options
    from offjax.runner.training import Training


FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    with cli.section("What is trained"):
        flags.DEFINE_string("method", None, "Method, or `list`.")
        flags.DEFINE_list(
            "dataset", [],
            "Dataset id, or `list`; several A,B,… are trained on together where they "
            "have one shape, and have a run each.",
        )  # fmt: skip
        cli.define_preset()
        flags.DEFINE_string("policy", None, "With --method=compose: a method.")
        flags.DEFINE_string("critic", None, "With --method=compose: a critic.")
        flags.DEFINE_string("improve", None, "With --method=compose: an operator.")
    with cli.section("Hyperparameters"):
        cli.declare_config()
        cli.define_count("num_steps", None, "Updates of every stage.")
    with cli.section("Seeds"):
        flags.DEFINE_integer("num_seeds", 5, "Number of seeds.")
        flags.DEFINE_integer("seed", 0, "First seed.")
        flags.DEFINE_integer(
            "seeds_at_once", 0,
            "Seeds that are trained together, in waves; 0: all of them.",
        )  # fmt: skip
    with cli.section("Evaluation"):
        _define_evaluation()
    with cli.section("The run"):
        _define_run()
    with cli.section("Devices"):
        _define_devices()
    with cli.section("Several hosts"):
        flags.DEFINE_bool("distributed", False, "Share the seeds with other hosts.")
        flags.DEFINE_string("coordinator", None, "HOST:PORT of the first host.")
        flags.DEFINE_integer("num_processes", None, "Number of hosts.")
        flags.DEFINE_integer("process_id", None, "Number of this host.")


def _define_evaluation() -> None:
    cli.define_count(
        "eval_every", 0,
        "Updates between evaluations of the last stage; 0: at its end.",
    )  # fmt: skip
    flags.DEFINE_integer("eval_episodes", 20, "Episodes per evaluation.")
    flags.DEFINE_integer(
        "eval_chains", 0,
        "Chains of five instructions per evaluation, in scenes with instructions.",
    )  # fmt: skip
    flags.DEFINE_integer(
        "eval_seed", 0,
        "Which set of evaluation episodes; tune on another than you report.",
    )  # fmt: skip
    flags.DEFINE_enum(
        "eval_behind", "auto", ["auto", "on", "off"],
        "Train on while environments on the host are stepped; the results are the "
        "same.",
    )  # fmt: skip


def _define_run() -> None:
    flags.DEFINE_string("runs_dir", "runs", "Where run folders go.")
    cli.define_data_dir()
    flags.DEFINE_bool(
        "resume", False, "Continue the newest unfinished run of this configuration."
    )
    flags.DEFINE_bool(
        "reuse_stages", True, "Take stages that were trained before from the store."
    )
    cli.define_count("log_every", 0, "Updates between metrics; 0: auto.")
    cli.define_count(
        "checkpoint_every", 0, "Updates between checkpoints; 0: ten per stage."
    )
    flags.DEFINE_float(
        "chunk_seconds", 5.0, "Time between two chances to stop and to show progress."
    )
    flags.DEFINE_bool(
        "stream", False,
        "Leave the data on the host, or on disk, and send batches; the results are the "
        "same.",
    )  # fmt: skip
    flags.DEFINE_list("log", [], "Further sinks: tensorboard, wandb.")
    flags.DEFINE_string("sweep", "", "Name of the sweep that this run is part of.")


def _define_devices() -> None:
    cli.define_host_devices()
    flags.DEFINE_enum(
        "layout", "auto", ["auto", "map", "vmap"], "Seeds inside a device."
    )
    flags.DEFINE_enum(
        "matmul_precision", "default", ["default", "float32", "tf32", "bfloat16"],
        "How matrix products round; default: as the device does it fastest.",
    )  # fmt: skip
    flags.DEFINE_string(
        "profile", "",
        "Folder for a trace of each stage's second chunk, for Perfetto.",
    )  # fmt: skip


def overrides() -> dict[str, tuple]:
    """`--config.` flags and `--num_steps` as name → values."""
    return cli.with_steps(cli.overrides(FLAGS.config), FLAGS.num_steps)


LISTS = {"policy": "methods", "critic": "critics", "improve": "operators"}
"""Flag → the list of its values, where `--FLAG=list` does not print it."""


def _required(value: str | None, flag: str) -> str:
    if not value:
        listed = f"`offjax list {LISTS[flag]}`" if flag in LISTS else f"--{flag}=list"
        raise UserError(f"--{flag} is missing; {listed} prints what there is.")
    return value


def _method() -> str:
    """The method's name; that of a composed one is `policy+critic+operator`."""
    parts = {name: FLAGS[name].value for name in ("policy", "critic", "improve")}
    if FLAGS.method == "compose":
        return "+".join(_required(value, name) for name, value in parts.items())
    given = [name for name, value in parts.items() if value]
    if given:
        raise UserError(
            f"--{given[0]} goes with --method=compose; to evaluate a trained run with "
            "another operator, use `offjax evaluate --improve`."
        )
    return _required(FLAGS.method, "method")


def _check_hosts() -> None:
    """Refuses flags of several hosts without --distributed."""
    for name in ("coordinator", "num_processes", "process_id"):
        value = FLAGS[name].value
        if value is not None and not FLAGS.distributed:
            raise UserError(
                f"--{name}={value} goes with --distributed; add it, or omit --{name}."
            )


def _print_list() -> bool:
    """Answers --method=list, --dataset=list and --config=list."""
    if FLAGS.method == "list":
        print("\n".join(lists.methods()))
    if FLAGS.dataset == ["list"]:
        print("\n".join(lists.datasets(FLAGS.data_dir)))
    listed = FLAGS.method == "list" or FLAGS.dataset == ["list"]
    if cli.config_listed() and not listed:
        dataset = FLAGS.dataset[0] if FLAGS.dataset else ""
        found = hyperparameters.lines(_method(), dataset, FLAGS.data_dir)
        print("\n".join(found))
    return listed or cli.config_listed()


def _options(max_devices: int) -> Options:
    """The flags that are options of a run."""
    from offjax.runner.options import Options

    names = {field.name for field in dataclasses.fields(Options)} & set(FLAGS)
    given: dict[str, Any] = {name: FLAGS[name].value for name in names}
    options = Options(**given | {"log": tuple(FLAGS.log), "max_devices": max_devices})
    options.validate()
    return options


def _load(name: str) -> Dataset:
    """The dataset; where it has to be collected, one host does it for all."""
    from offjax.catalog.load import load_dataset
    from offjax.devices import hosts

    if hosts.is_writer():
        dataset = load_dataset(name, FLAGS.data_dir, progress=print)
    hosts.barrier("dataset")
    return dataset if hosts.is_writer() else load_dataset(name, FLAGS.data_dir)


def _datasets() -> list[str]:
    """The ids that are given, each once."""
    if not FLAGS.dataset:
        _required(None, "dataset")
    for i, name in enumerate(FLAGS.dataset):
        if not name or name in FLAGS.dataset[:i]:
            given = ",".join(FLAGS.dataset)
            raise UserError(
                f"--dataset={given} has {name!r} twice or an empty name: give each "
                "dataset once."
            )
    return FLAGS.dataset


def _plan(max_devices: int) -> list[list[Training]]:
    """The runs that the flags ask for, those that are trained together in one list.

    The datasets are loaded, or collected.
    """
    from offjax.catalog.load import known_spec
    from offjax.devices import hosts
    from offjax.evaluation import environments
    from offjax.runner import sinks
    from offjax.runner.training import Training, check, make_jobs

    options, method = _options(max_devices), _method()
    sinks.check(options.log)
    names = _datasets()
    # Errors here come before data are loaded or collected.
    check(method, FLAGS.preset, overrides())
    for name in names:
        spec = known_spec(name, FLAGS.data_dir)
        check(method, FLAGS.preset, overrides(), name, spec)
    planned = []
    for name in names:
        dataset = _load(name)
        if hosts.is_writer():
            print(dataset.card, environments.line(dataset.spec), sep="\n", flush=True)
        jobs = make_jobs(method, FLAGS.preset, dataset, overrides())
        planned.append(
            [Training.of(job, method, FLAGS.preset, dataset, options) for job in jobs]
        )
    return [list(runs) for runs in zip(*planned, strict=True)]


def main(argv: list[str]) -> None:
    """Trains, evaluates, and tells where the run lies."""
    del argv
    if _print_list():
        return
    from offjax.devices import hosts
    from offjax.devices.layout import prepare_host_devices
    from offjax.runner import interrupts
    from offjax.runner.train import train_together

    _check_hosts()
    interrupts.listen(signal.SIGTERM)  # Ctrl-C too, once there is something to save
    max_devices = prepare_host_devices(FLAGS.host_devices)
    if FLAGS.distributed:
        hosts.initialize(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    planned = _plan(max_devices)
    interrupts.listen()
    for trainings in planned:
        try:
            paths = [folder.path for folder in train_together(trainings)]
        except interrupts.Interrupted:
            if hosts.is_writer():
                print(f"resume: {cli.again('--resume')}", flush=True)
            raise
        for path in paths if hosts.is_writer() else []:
            print("\n".join(summary.lines(path, FLAGS.runs_dir, FLAGS.data_dir)))
            print(f"run: {path}", flush=True)
