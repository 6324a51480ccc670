"""Carries out command lines of experiments.run in forks, up to where training begins.

    python fuzz_flags.py < list of argument lists, JSON > [exit code, stderr] of each

What is left away is the training itself: stages that read no other are traced.
"""

import json
import os
import sys
import tempfile
import warnings


def traced(trainer):
    """Instead of `Trainer.run`: every program is made on shapes."""
    import jax

    from offjax.runner import settings
    from offjax.runner.stages import prepare_data, template

    for run in trainer.stages:
        stage = run.stage
        if stage.reads or stage.data_per_seed:
            break
        with settings.blamed(trainer.job, stage.name):
            data = prepare_data(run, trainer.dataset, {})
            states = template(run, data, {})

            def step(state, config, data, stage=stage):
                batch = stage.sampler(data, state.key, config)
                return stage.algorithm.update(state, batch, config, {})

            one = jax.tree.map(lambda x: x[0], (states, run.configs))
            jax.eval_shape(step, *one, data)
    sys.exit(0)


def child(arguments, error):
    """In a fork: the command, its messages in the file `error`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(error.fileno(), 2)
    sys.argv = ["run", *arguments]
    from experiments import cli, run  # defines its flags from sys.argv
    from offjax.runner.train import Trainer

    Trainer.run = traced
    cli.run(run.main)


def main():
    """All command lines, each in a fork of this process."""
    warnings.simplefilter("ignore")
    import absl.app  # noqa: F401 - what every fork needs is imported once
    import ml_collections.config_flags  # noqa: F401

    import offjax.methods
    import offjax.runner.train  # noqa: F401

    results = []
    for arguments in json.load(sys.stdin):
        with tempfile.TemporaryFile() as error:
            process = os.fork()
            if process == 0:
                child(arguments, error)
            _, status = os.waitpid(process, 0)
            error.seek(0)
            message = error.read().decode(errors="replace")
            results.append((os.waitstatus_to_exitcode(status), message))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
