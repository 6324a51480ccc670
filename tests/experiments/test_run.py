"""The run command as a user meets it: its lists, its errors, a small run."""

from __future__ import annotations

import csv

import pytest

from offjax.methods import METHODS

DATASET = "offjax/budget/t10-smooth-v0"
TINY = (
    "--method=asp", f"--dataset={DATASET}", "--preset=demo", "--num_seeds=2",
    "--num_steps=0.6e1", "--config.hidden_dims=8,8", "--config.batch_size=4",
    "--eval_episodes=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def command(experiment, root):
    """`command(*flags) → (exit code, stdout, stderr)`."""
    places = (f"--data_dir={root / 'data'}", f"--runs_dir={root / 'runs'}")
    return lambda *flags: experiment("run", *places, *flags)


@pytest.fixture(scope="module")
def finished(command):
    """A tiny run with two values of a hyperparameter: its printed lines, folder."""
    code, output, errors = command(*TINY, "--config.lr=1e-4,3e-4")
    assert code == 0, errors
    assert output.splitlines()[-2].startswith("next: offjax leaderboard")
    return output.splitlines(), output.splitlines()[-1].removeprefix("run: ")


def complains(result, *words):
    """Exit code 2 and one paragraph that names the thing."""
    code, _, errors = result
    assert code == 2, errors
    assert errors.startswith("error: ")
    assert errors.strip().count("\n") == 0
    assert "Traceback" not in errors
    for word in words:
        assert word in errors


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--method=",), ["--method is missing", "--method=list"]),
        (("--dataset=",), ["--dataset is missing", "--dataset=list"]),
        (("--method=aps",), ["'aps'", "Did you mean", "asp"]),
        (("--method=bc+iql+best",), ["best"]),
        (("--critic=sarsa",), ["--critic", "--method=compose"]),
        (("--dataset=offjax/budget/t11-smooth-v0",), ["t11", "200"]),
        (("--dataset=offjax/budget/t10-smoth-v0",), ["smooth"]),
        (("--dataset=hopper-medium-v9",), ["hopper-medium-v9"]),
        (("--config.learning_rate=1e-3",), ["'learning_rate'", "Known", "lr"]),
        (("--config.bc.lr=1e-3",), ["'bc.lr'"]),
        (("--config.lr=high",), ["lr", "'high'", "float"]),
        (("--config.k=2.5",), ["k=2.5", "int"]),
        (("--config.hidden_dims=wide",), ["hidden_dims"]),
        (("--config.mode=clip",), ["mode is 'clip'", "anchored"]),
        (("--config.k=11",), ["k=11", "T=10"]),
        (("--config.k=0",), ["k=0"]),
        (("--num_seeds=0",), ["num_seeds=0"]),
        (("--num_steps=0",), ["num_steps=0"]),
        (("--config.num_steps=10",), ["--num_steps=6", "--config.num_steps=10"]),
        (("--eval_episodes=0",), ["eval_episodes=0"]),
        (("--seed=-1",), ["seed=-1"]),
        (("--seed=99999999999",), ["seed=99999999999", "4294967295"]),
        (("--seed=4294967295",), ["seed=4294967295"]),
        (("--eval_seed=4294967296",), ["eval_seed=4294967296"]),
        (("--num_steps=2.5",), ["num_steps", "2.5"]),
        (("--config.lr=-1",), ["lr=-1", "at least 0"]),
        (("--method=TD3-BC",), ["'TD3-BC'", "Did you mean td3_bc"]),
        (("--coordinator=localhost:1",), ["localhost:1", "--distributed"]),
        (("--process_id=0",), ["--process_id=0", "--distributed"]),
        (("--log=paper",), ["paper", "tensorboard"]),
        (("lr=3",), ["'lr=3'", "--name=value"]),
        (("--num_seeds=many",), ["num_seeds", "many"]),
        (("--num_seeds=100000000",), ["num_seeds=100000000", "seeds fit"]),
        (("--numseeds=3",), ["--numseeds", "Did you mean --num_seeds"]),
        (("--preset=large",), ["preset", "large"]),
    ],
)
def test_bad_input(command, flags, words):
    complains(command(*TINY, *flags), *words)


def test_a_runs_folder_that_cannot_be_written(command, root):
    (root / "file").write_text("")
    place = root / "file" / "runs"
    complains(command(*TINY, f"--runs_dir={place}"), str(place), "--runs_dir")


def test_a_run_tells_what_it_does(finished):
    lines, folder = finished
    assert any(x.startswith("dataset") and DATASET in x for x in lines)
    assert any(x.startswith("rows") and "20,000 in 2,000 episodes" in x for x in lines)
    assert f"asp on {DATASET}: 6 updates (asp) of 2 seeds × 2 settings" in lines[-9]
    assert lines[-9].endswith(folder)
    assert lines[-8] == "asp: 6 updates × 2 seeds × 2 settings, compiling"
    assert lines[-7].startswith("asp  6/6  ") and "ETA 0:00" in lines[-7]
    assert lines[-6].startswith("evaluated at 6: score ")
    assert "over 2 settings" in lines[-6]
    assert all(" ± " in x and "(2 seeds)" in x for x in lines[-5:-3])
    with open(f"{folder}/scores.csv") as file:
        rows = list(csv.DictReader(file))
    found = [(r["seed"], r["variant"].rsplit(",", 1)[1]) for r in rows]
    assert found == [
        ("0", "lr=0.0001"), ("1", "lr=0.0001"), ("0", "lr=0.0003"), ("1", "lr=0.0003"),
    ]  # fmt: skip
    assert {r["method"] for r in rows} == {"asp"}
    assert {r["dataset"] for r in rows} == {DATASET}


def test_resuming(command, finished):
    flags = (*TINY, "--config.lr=1e-4,3e-4", "--resume")
    code, output, _ = command(*flags)
    assert code == 0 and "is finished already" in output
    path = f"{finished[1]}/run.json"
    with open(path) as file:
        record = file.read()
    try:
        with open(path, "w") as file:
            file.write(record.replace('"finished"', '"running"'))
        other = command(*flags, "--num_seeds=3", "--config.k=5")
        complains(
            other, finished[1], "seeds is [0, 1] there, [0, 1, 2] here",
            "asp.config.k is 10 there, 5 here",
        )  # fmt: skip
    finally:
        with open(path, "w") as file:
            file.write(record)


@pytest.mark.parametrize(
    ("flag", "word"),
    [
        ("--config.learning_rate=1e-3", "'learning_rate'"),
        ("--config.k=11", "T=10"),
        ("--num_steps=0", "num_steps=0"),
        ("--log=paper", "tensorboard"),
    ],
)
def test_settings_are_checked_before_data_are_collected(command, root, flag, word):
    data = root / "elsewhere"
    complains(command(*TINY, f"--data_dir={data}", flag), word)
    assert not data.exists()


def test_help_is_no_failure(command):
    code, output, _ = command("--help")
    assert code == 0 and "--num_steps" in output


def test_lists(command):
    code, output, _ = command("--method=list")
    assert code == 0
    names = [line.split()[0] for line in output.splitlines()]
    assert names == list(METHODS)
    assert all(len(line.split()) > 3 for line in output.splitlines())
    code, output, _ = command("--dataset=list")
    assert code == 0
    ids = {line.removesuffix(" *") for line in output.splitlines()}
    assert {DATASET, "offjax/maze2d/large-v0", "hopper-medium-v2"} <= ids
