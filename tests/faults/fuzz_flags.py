"""Carries out command lines of experiments.run in forks, up to where training begins.

    python fuzz_flags.py < list of argument lists, JSON > [exit code, stderr] of each

What is left away is the training itself: stages that read no other are traced.
"""

import json
import os
import sys
import tempfile
import warnings


def traced(training):
    """Instead of `train`: every program is made on shapes."""
    import jax

    from offjax.runner import settings
    from offjax.runner.stages import stage_data, template

    for run in training.stages:
        stage = run.stage
        if stage.reads or stage.view.per_seed:
            break
        with settings.blamed(training.job, stage.name):
            data = stage_data(run, training.dataset, {})
            states = template(run, data, {})

            def step(state, config, data, stage=stage):
                batch = stage.view.sample(data, state.key, config)
                return stage.method.update(state, batch, config, {})

            one = jax.tree.map(lambda x: x[0], (states, run.configs))
            jax.eval_shape(step, *one, data)
    sys.exit(0)


def child(arguments, error):
    """In a fork: the command, its messages in the file `error`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(error.fileno(), 2)
    sys.argv = ["run", *arguments]
    from offjax.cli import command, run
    from offjax.runner import train

    train.train = traced
    command.start(run)  # its flags are defined from sys.argv


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
