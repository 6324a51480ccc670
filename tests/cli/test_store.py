"""A dataset is stored, trained on from disk, and its run evaluated, by commands."""


def test_a_stored_dataset_is_streamed_and_its_run_evaluated(offjax, tiny, finished):
    stored = offjax(
        "store", "offjax/budget/t10-smooth-v0", "--name=mine/copy-v0",
        "--data_dir=data",
    )  # fmt: skip
    assert stored.code == 0, stored.errors
    assert "mine/copy-v0" in stored.output
    flags = [flag for flag in tiny if not flag.startswith("--dataset")]
    run = offjax("run", *flags, "--dataset=mine/copy-v0", "--stream")
    assert run.code == 0, run.errors
    folder = run.output.splitlines()[-1].removeprefix("run: ")
    for file in ("scores.csv", "episodes.csv"):
        streamed, in_memory = (
            (offjax.folder / path / file).read_text() for path in (folder, finished[0])
        )
        assert streamed == in_memory.replace(
            "offjax/budget/t10-smooth-v0", "mine/copy-v0"
        )
    again = offjax("evaluate", folder, "--eval_episodes=2", "--data_dir=data")
    assert again.code == 0, again.errors


def test_noise_has_the_shapes_of_the_environment(offjax):
    flags = ("--name=mine/noise-v0", "--synthetic_rows=25", "--data_dir=data")
    done = offjax("store", "--dataset=offjax/budget/t10-smooth-v0", *flags)
    assert done.code == 0, done.errors
    assert "25 in 3 episodes of 5 to 10 steps" in done.output


def test_a_missing_name_is_told(offjax):
    done = offjax("store", "--dataset=offjax/budget/t10-smooth-v0")
    assert done.code == 2
    assert "--name is missing" in done.errors
