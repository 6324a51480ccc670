"""A policy's own successful rollouts, as data for the planner.

    python -m experiments.lcd.rollouts --run=runs/hulc/… [--num_chains=1000]
        [--eval_seed=1000] [--data_dir=FOLDER]

The published code of Language Control Diffusion trains its planner on what the
low-level policy did under instructions, as far as it succeeded; the policy
itself is trained on play. All seeds of a finished run carry out chains of five from
starts that are not those of its evaluation, and every instruction that was done is a
described span of a dataset, whose id tells the run and the settings by their hash:

    python -m experiments.run --method=lcd_hulc --dataset=offjax/scene/play-v0
        --config.planner.rollouts=rollouts/hulc-scene-…-v0

trains the policy on play and the planner on the rollouts, which lie in
$MINARI_DATASETS_PATH or ~/.minari/datasets. As --dataset they are data like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.datasets.language import LanguageDataset
    from offjax.evaluation.instructions import Trial
    from offjax.runner.run import Run

FLAGS = flags.FLAGS


def chains(run: Run, count: int, eval_seed: int) -> list[Trial]:
    """Chains of the run's scene from starts that its evaluation does not have.

    Raises:
      UserError: the run is not of a scene, pursues given states, or is evaluated on
        this very set.
    """
    from offjax.evaluation import environments, scene

    training = run.training
    spec, options = training.dataset.spec, training.options
    if spec is None or not environments.instructed(spec):
        raise UserError(f"{run.path} is not of a scene, where there are instructions.")
    if run.evaluator.agent().actor.given_goals:
        raise UserError(
            f"{run.path} pursues given states; rollouts are of a policy that follows "
            "instructions, such as gcbc, mcil or hulc."
        )
    if eval_seed == options.eval_seed:
        raise UserError(
            f"eval_seed={eval_seed} is the set that {run.path} is evaluated on; choose "
            "another."
        )
    name = scene.name_of(spec)
    evaluated = scene.trials(name, eval_seed=options.eval_seed)
    drawn = scene.trials(name, 0, count, eval_seed)
    return without_starts(drawn.chains, evaluated)


def without_starts(
    drawn: Sequence[Trial], evaluated: Iterable[list[Trial]]
) -> list[Trial]:
    """The drawn trials that begin where none of those evaluated does."""
    starts = {trial.start for some in evaluated for trial in some}
    return [trial for trial in drawn if trial.start not in starts]


def specification(run: Run, count: int, eval_seed: int) -> dict[str, Any]:
    """All that the rollouts depend on."""
    from offjax.runner.records import digest

    return {
        "rollouts_of": digest(run.folder.config),
        "num_chains": count,
        "eval_seed": eval_seed,
    }


def collect(run: Run, given: list[Trial], made_from: dict[str, Any]) -> LanguageDataset:
    """Carries out chains with all seeds of a run, and keeps what succeeded."""
    from offjax.catalog import collected
    from offjax.envs.scene_batch import SceneBatch
    from offjax.evaluation import host, instructions, recorded, scene

    spec, seeds = run.training.dataset.spec, run.evaluator.slot_seeds
    assert spec is not None
    name = scene.name_of(spec)
    places = host.num_places(len(seeds), len(given))
    agent = run.evaluator.batched(places)
    batch = SceneBatch(name, len(seeds) * places, cameras=spec.cameras)
    env = recorded.Recorder(batch, places)
    try:
        instructions.evaluate(agent, env, given, seeds, made_from["eval_seed"])
    finally:
        env.close()
    identity = collected.identity(made_from)
    return recorded.described(
        env.spans,
        given,
        spec,
        id=f"rollouts/{run.training.method}-{name}-{identity[:12]}-v0",
        source=f"successful rollouts of {run.path}",
        identity=identity,
    )


def main(_: list[str]) -> None:
    """Collects, writes, and tells the id."""
    from offjax.catalog import load
    from offjax.datasets import minari_io
    from offjax.devices.layout import prepare_host_devices
    from offjax.runner.run import finished, load_run

    if not FLAGS.run:
        raise UserError("--run is missing: the folder of a finished run.")
    prepare_host_devices(None)
    config = finished(FLAGS.run).config
    run = load_run(FLAGS.run, load.load_dataset(config["dataset"], FLAGS.data_dir))
    made_from = specification(run, FLAGS.num_chains, FLAGS.eval_seed)
    given = chains(run, FLAGS.num_chains, FLAGS.eval_seed)
    dataset = collect(run, given, made_from)
    minari_io.write(dataset, made_from, FLAGS.data_dir)
    print(dataset.card)
    print(f"dataset: {dataset.card.id}, in {minari_io.root(FLAGS.data_dir)}")


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    flags.DEFINE_string("run", None, "Folder of a finished run.")
    flags.DEFINE_integer("num_chains", 1_000, "Chains of five, for every seed.", 1)
    flags.DEFINE_integer("eval_seed", 1_000, "Which set of chains.", 0)
    flags.DEFINE_string("data_dir", None, "Root of the datasets.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
