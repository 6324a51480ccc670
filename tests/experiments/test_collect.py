"""The collect command, run as a user runs it."""

import pytest


@pytest.fixture
def collect(experiment, tmp_path):
    def run(*flags):
        return experiment("collect", *flags, MINARI_DATASETS_PATH=str(tmp_path))

    return run


def test_collects_and_prints_the_card(collect, tmp_path):
    flags = ("--dataset=offjax/budget/t10-smooth-v0", "--num_episodes=7", "--seed=2")
    done = collect(*flags)
    assert done.returncode == 0, done.stderr
    assert "70 in 7 episodes of 10 to 10 steps" in done.stdout
    assert (tmp_path / "offjax/budget/t10-smooth-v0/data/main_data.hdf5").is_file()
    other = collect(flags[0], "--num_episodes=8")
    assert other.returncode == 2 and "--force" in other.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "--dataset is missing"),
        (("--dataset=offjax/maze2d/umase-v0",), "offjax/maze2d/umaze-v0"),
        (("--dataset=offjax/maze2d/umaze-v0", "--num_episodes=3"), "--num_transitions"),
    ],
)
def test_bad_input_is_one_paragraph_and_exit_code_2(collect, flags, words):
    done = collect(*flags)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_list(collect):
    done = collect("--dataset=list")
    assert done.returncode == 0
    assert "offjax/budget/t10-smooth-v0" in done.stdout.splitlines()
