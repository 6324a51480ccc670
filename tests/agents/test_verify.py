"""Rows that prove themselves, and every way to change one."""

import csv
import gzip
import io
import json
import shutil

import pytest

from offjax.agents import archive, replay, retrain, verdicts
from offjax.agents.verdicts import DIFFERS, UNKNOWN, VERIFIED, Episode
from offjax.leaderboard import export, store
from offjax.runner import run as api
from tests.agents.test_load import KINDS, changed, some
from tests.runner.tiny_training import train

QUICK = "asp", "decision_transformer", "cfpi", "td3_bc", "rev_kl"
"""The others take long."""


def exported(dataset, tmp_path, method="td3_bc", name="runs", **options):
    """A run, and the folder of its export with parameters."""
    defaults = {"eval_episodes": 3, "checkpoint_every": 4}
    run = train(dataset, tmp_path / name, method, **defaults | options)

    def add(found, path):
        archive.write(api.load_run(found.path, dataset), path)

    runs = store.read([run.path]).runs
    (folder,), notes = export.write(runs, tmp_path / f"{name}-export", add)
    assert notes == []
    return run, folder


@pytest.fixture(scope="module")
def original(varied, tmp_path_factory):
    return exported(varied, tmp_path_factory.mktemp("original"))


@pytest.fixture
def row(original, tmp_path):
    """A copy of the exported run."""
    return shutil.copytree(original[1], tmp_path / original[1].name)


def seal(folder):
    """Makes the checksums of a changed export those of its files."""
    names = list(json.loads((folder / "checksums.json").read_text()))
    text = json.dumps(export.checksums(folder, names))
    (folder / "checksums.json").write_text(text)


def edit(folder, file, change):
    """Changes the text of a file."""
    path = folder / file
    if file.endswith(".gz"):
        path.write_bytes(
            gzip.compress(change(gzip.decompress(path.read_bytes()).decode()).encode())
        )
    else:
        path.write_text(change(path.read_text()))


def edit_json(folder, file, **values):
    def change(text):
        return json.dumps(json.loads(text) | values)

    edit(folder, file, change)


def edit_rows(folder, file, change):
    """Changes the rows of a CSV file, each by column: `change(list of dicts)`."""

    def changed_text(text):
        rows = list(csv.DictReader(io.StringIO(text)))
        names = list(rows[0])
        rows = change(rows) or rows
        out = io.StringIO()
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()

    edit(folder, file, changed_text)


def cells(folder, file, row, **functions):
    """Changes cells of the row with that number."""

    def change(rows):
        for name, function in functions.items():
            rows[row][name] = function(rows[row][name])

    edit_rows(folder, file, change)


def reseed(folder, function):
    """Gives the rows of all files other seeds."""
    for file in ("scores.csv", "episodes.csv.gz"):

        def change(rows):
            for row in rows:
                row["seed"] = str(function(int(row["seed"])))

        edit_rows(folder, file, change)


def test_an_honest_row_is_verified(row):
    assert replay.verify(row) == (VERIFIED, ())


@pytest.mark.parametrize(
    "method", some(("asp", "decision_transformer", "cfpi", "reinformer"), QUICK)
)
def test_rows_of_other_kinds_are_verified(method, archived, varied, tmp_path):
    run, _ = archived(method, varied, KINDS[method])
    (folder,), _ = export.write(
        store.read([run.path]).runs,
        tmp_path / "out",
        lambda found, path: archive.write(api.load_run(found.path, varied), path, 1),
    )
    found = replay.verify(folder)
    assert found.word == VERIFIED
    assert found.reasons == (
        "The archive has no parameters of the seeds [1]: not replayed.",
    )


def double(text):
    return f"{2 * float(text):.8g}"


def alter_score(row, _):
    cells(row, "scores.csv", 1, score=double)


def alter_mean(row, _):
    cells(row, "scores.csv", 1, return_mean=double, score=double)


def alter_episode(row, _):
    cells(row, "episodes.csv.gz", 4, **{"return": double})


def alter_episodes_and_means(row, _):
    """Doubles the returns of a seed, with all that follows from them."""
    spec, returns = archive.read(row / archive.FILE).dataset.spec, []

    def change(rows):
        for each in rows[:3]:
            each["return"] = double(each["return"])
            returns.append(float(each["return"]))

    edit_rows(row, "episodes.csv.gz", change)
    mean = sum(returns) / 3
    cells(
        row, "scores.csv", 0,
        return_mean=lambda _: f"{mean:.8g}",
        return_std=double,
        score=lambda _: f"{float(spec.score(mean)):.6g}",
    )  # fmt: skip


def alter_length(row, _):
    cells(row, "episodes.csv.gz", 4, length=lambda _: "3")


def drop_episode(row, _):
    edit_rows(row, "episodes.csv.gz", lambda rows: rows[:-1])


def swap_seeds(row, _):
    """Gives each seed the numbers of the other."""
    reseed(row, lambda seed: 1 - seed)


def add_seed(row, _):
    edit_rows(row, "scores.csv", lambda rows: [*rows, rows[-1] | {"seed": "7"}])


def renumber_seeds(row, _):
    """Says everywhere that the seeds were 1 and 2."""
    config = json.loads((row / "config.json").read_text()) | {"seeds": [1, 2]}
    _rewrite_config(row, config)
    changed(row / archive.FILE, seeds=[1, 2])
    reseed(row, lambda seed: seed + 1)


def _rewrite_config(row, config):
    """Puts a configuration in all the places that have it."""
    (row / "config.json").write_text(json.dumps(config))
    edit_json(row, "run.json", config_hash=archive_hash(config))
    changed(row / archive.FILE, config=config, run__config_hash=archive_hash(config))


def archive_hash(config):
    return replay.digest(config)


def alter_weights(row, other):
    """The weights of another training in the archive, its digest made to fit."""
    ours, theirs = (archive.read(each / archive.FILE) for each in (row, other))
    shutil.copy(other / archive.FILE, row / archive.FILE)
    manifest = dict(ours.manifest)
    stages = {n: dict(e) for n, e in manifest["stages"].items()}
    for name, entry in stages.items():
        entry["sha256"] = theirs.manifest["stages"][name]["sha256"]
    changed(row / archive.FILE, **(manifest | {"stages": stages}))


def swap_archive(row, other):
    shutil.copy(other / archive.FILE, row / archive.FILE)


def alter_commit(row, _):
    edit_json(row, "run.json", commit="0123456789ab")


def alter_version(row, _):
    versions = json.loads((row / "run.json").read_text())["versions"]
    edit_json(row, "run.json", versions=versions | {"jax": "0.0.1"})


def alter_config(row, _):
    config = json.loads((row / "config.json").read_text())
    config["stages"]["td3_bc"]["config"]["alpha"] = 9.0
    (row / "config.json").write_text(json.dumps(config))


def alter_evaluation_set(row, _):
    config = json.loads((row / "config.json").read_text())
    _rewrite_config(row, config | {"eval_seed": 5})


def alter_reference(row, _):
    """Another return that scores 100, and the scores that follow."""
    spec = archive.read(row / archive.FILE).manifest["spec"]
    changed(row / archive.FILE, spec__ref_max_score=2 * spec["ref_max_score"])


TAMPERING = [
    alter_score, alter_mean, alter_episode, alter_episodes_and_means, alter_length,
    drop_episode, swap_seeds, add_seed, renumber_seeds, alter_weights, swap_archive,
    alter_commit, alter_version, alter_config, alter_evaluation_set, alter_reference,
]  # fmt: skip


@pytest.fixture(scope="module")
def other(varied, tmp_path_factory):
    """The export of a run with another hyperparameter."""
    folder = tmp_path_factory.mktemp("other")
    return exported(varied, folder, overrides={"alpha": (9.0,)})[1]


@pytest.mark.parametrize("tamper", TAMPERING)
def test_whatever_is_changed_is_found(tamper, row, other, varied):
    tamper(row, other)
    found = replay.verify(row)
    assert found.word == DIFFERS and "checksums.json" in found.reasons[0]
    assert any("checksum" in str(note) for note in store.read([row]).notes)
    seal(row)  # as someone does who knows how
    found = replay.verify(row)
    assert found.word == DIFFERS, found


def test_what_a_replay_cannot_tell_is_a_commit_that_is_changed_everywhere(row):
    """Nor a hyperparameter that acting does not read; training again tells that."""
    alter_commit(row, None)
    changed(row / archive.FILE, run__commit="0123456789ab")
    seal(row)
    assert replay.verify(row).word == VERIFIED


def test_the_difference_is_named():
    found = verdicts.compare(
        ({("a", 1): {0: Episode("2", 9)}}, {("a", 1): ["1", "2", "0", "5"]}),
        ({("a", 1): {0: Episode("3", 9)}}, {("a", 1): ["1", "2", "0", "5"]}),
        same=True,
    )
    assert str(found) == (
        "differs: seed 1 of a, episode 0: return 2 in 9 steps is recorded, 3 in 9 "
        "replayed (+1)."
    )


@pytest.mark.parametrize(
    ("returns", "word"),
    [
        (["10.0001", "20", "30"], verdicts.CLOSE),
        (["11", "19.5", "30"], UNKNOWN),
        (["110", "119", "130"], DIFFERS),
        (["10", "20"], DIFFERS),
    ],
)
def test_on_another_processor_rounding_is_no_fraud(returns, word):
    key, scores = ("a", 0), {("a", 0): ["3", "20", "8", "5"]}
    recorded = {i: Episode(v, 9) for i, v in enumerate(["10", "20", "30"])}
    played = {i: Episode(v, 9) for i, v in enumerate(returns)}
    found = verdicts.compare(
        ({key: recorded}, scores), ({key: played}, scores), same=False
    )
    assert found.word == word
    assert verdicts.compare(
        ({key: recorded}, scores), ({key: played}, scores), same=True
    ).word == DIFFERS  # fmt: skip


@pytest.mark.parametrize(
    ("recorded", "played", "same", "word"),
    [
        (["3", "20", "8", "5"], ["3", "20.001", "8", "5"], False, VERIFIED),
        (["3", "20", "8", "5"], ["3", "20.001", "8", "5"], True, DIFFERS),
        (["3", "20", "8", "5"], ["3", "20", "9", "5"], False, DIFFERS),
        (["3", "20", "8", "5"], ["3", "20", "8", "nan"], False, DIFFERS),
        (["3", "20", "8", ""], ["3", "20", "8", "nan"], True, VERIFIED),
        (["3", "20", "8", "five"], ["3", "20", "8", "5"], False, DIFFERS),
    ],
)
def test_scores_must_agree_even_where_all_episodes_do(recorded, played, same, word):
    episodes = {("a", 0): {i: Episode("20", 9) for i in range(3)}}
    found = verdicts.compare(
        (episodes, {("a", 0): recorded}), (episodes, {("a", 0): played}), same
    )
    assert found.word == word


def test_an_episode_of_another_length_is_another_episode():
    key, scores = ("a", 0), {("a", 0): ["3", "20", "0", "5"]}
    recorded, played = (
        {key: {i: Episode("20", length) for i in range(3)}} for length in (9, 8)
    )
    found = verdicts.compare((recorded, scores), (played, scores), same=False)
    assert found.word == UNKNOWN


def test_what_cannot_be_verified_says_why(row):
    (row / archive.FILE).unlink()
    (row / "checksums.json").unlink()
    found = replay.verify(row)
    assert found.word == UNKNOWN and "--parameters" in found.reasons[0]


@pytest.mark.parametrize("file", ["config.json", "run.json", "episodes.csv.gz"])
def test_damaged_files_are_named(row, file):
    (row / file).write_bytes((row / file).read_bytes()[:-20])
    seal(row)
    found = replay.verify(row)
    assert found.word == UNKNOWN and f"The exported run {row}" in found.reasons[0]


def test_an_environment_that_would_be_imported_is_not(row):
    changed(row / archive.FILE, spec__id="antigravity:Fly-v0")
    seal(row)
    found = replay.verify(row)
    assert found.word == UNKNOWN and "antigravity" in found.reasons[0]


# -- training again -----------------------------------------------------------


def recorded(folder):
    return {s.stage.name: s.digests for s in archive.read(folder / archive.FILE).stages}


# rev_kl reads other stages.
@pytest.mark.parametrize("method", some(("td3_bc", "rev_kl", "iterative_cfpi"), QUICK))
def test_every_stretch_of_a_training_comes_out_again(method, varied, tmp_path):
    more = {"network": ("mlp",)} if method == "rev_kl" else {}
    path, folder = exported(varied, tmp_path, method, overrides=more)
    run = api.load_run(path.path, varied)
    found = list(retrain.stretches(run, recorded(folder)))
    assert len(found) >= 2 and max(stretch.start for stretch in found) > 0
    for stretch in found:
        assert retrain.trained(run, stretch) == stretch.digests
    assert retrain.verify(run, recorded(folder)).word == VERIFIED


def test_a_training_that_was_another_is_found(varied, original, other):
    run = api.load_run(original[0].path, varied)
    for seed in range(3):
        found = retrain.verify(run, recorded(other), seed)
        assert found.word == DIFFERS and "seed 0 comes to another" in str(found)
    assert retrain.verify(run, {}).word == UNKNOWN
