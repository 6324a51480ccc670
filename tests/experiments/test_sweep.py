"""The sweep and tuning commands: plans, refusals, records."""

import json

import pytest

DATASET = "offjax/budget/t10-smooth-v0"


@pytest.fixture
def command(experiment, tmp_path):
    """`command(module, *flags)`, in folders of the test."""
    places = (f"--runs_dir={tmp_path / 'runs'}", f"--data_dir={tmp_path / 'data'}")
    return lambda module, *flags: experiment(module, "--preset=demo", *places, *flags)


def test_a_plan_is_printed_and_nothing_is_run(command, tmp_path):
    done = command(
        "sweep", "--methods=bc,percent_bc", f"--datasets={DATASET}",
        "--config.actor_lr=2e-3,3e-3", "--config.batch_size=16,32", "--dry_run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 jobs, 0 of them finished before" in done.stdout
    assert done.stdout.count("waiting     ") == 4
    assert "actor_lr=0.002,batch_size=16 and 1 more" in done.stdout
    assert f"{DATASET} is not here" in done.stdout
    assert not (tmp_path / "runs").exists() and not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "module, flags, message",
    [
        ("sweep", ["--methods=bcc"], "--datasets is missing"),
        ("sweep", ["--methods=bcc", f"--datasets={DATASET}"], "bcc"),
        ("tune", ["--methods=bc", f"--datasets={DATASET}"], "nothing to tune"),
        (
            "tune",
            ["--methods=bc", f"--datasets={DATASET}", "--config.lr=1e-3,3e-3",
             "--tune_seed=3"],
            "among the final seeds",
        ),
        (
            "tune",
            ["--methods=bc,asp", f"--datasets={DATASET}", "--config.actor_lr=1,2"],
            "'actor_lr'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(command, tmp_path, module, flags, message):
    done = command(module, *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert not (tmp_path / "data").exists()  # nothing was collected


@pytest.mark.long
def test_a_tuned_method_is_measured_on_other_seeds(command, tmp_path):
    flags = ["--methods=bc", f"--datasets={DATASET}", "--num_steps=40"]
    flags += ["--num_seeds=2", "--tune_seeds=1", "--eval_episodes=2"]
    done = command("tune", *flags, "--config.batch_size=8,16")
    assert done.returncode == 0, done.stderr
    tuned = tmp_path / "runs" / "tuning" / "tuning"
    record = json.loads((tuned / "tuning.json").read_text())[DATASET]["bc"]
    assert record["evaluations"] == 2
    best = max(record["trials"], key=lambda trial: trial["score"])
    assert record["chosen"] == best["point"]

    def seeds(folder):
        configs = [json.loads(p.read_text()) for p in folder.rglob("config.json")]
        return sorted(seed for config in configs for seed in config["seeds"])

    assert seeds(tuned) == [1000, 1000]
    assert seeds(tmp_path / "runs" / "bc") == [0, 1]
