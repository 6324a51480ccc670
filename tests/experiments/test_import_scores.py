"""Result files in the formats of other projects, onto the board."""

import csv
import json
import tomllib

import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from offjax.errors import UserError
from offjax.leaderboard import board, foreign, imported, reported, store
from offjax.leaderboard.board import Column


def series(*paths, **options):
    records = [r for path in foreign.files(map(str, paths)) for r in foreign.read(path)]
    return imported.collect(records, **options)


def scores(found, checkpoint="last"):
    return {(s.method, s.dataset, s.seed): s.score(checkpoint) for s in found}


def table(path, header, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_a_panel_of_wandb(tmp_path):
    run = "TD3_BC-hopper-medium-v2-{} - d4rl_normalized_score"
    path = table(
        tmp_path / "panel.csv",
        ["Step", *(run.format(i) + end for i in ("1a", "2b") for end in ("", "__MIN"))],
        [5000, 40.0, 0, "", 0],
        [6000, "", 0, 52.0, 0],
        [10000, 48.0, 0, 50.0, 0],
    )
    found = series(path)
    method = ("TD3_BC", "hopper-medium-v2")
    assert scores(found) == {(*method, 0): 48.0, (*method, 1): 50.0}
    assert scores(found, "best") == {(*method, 0): 48.0, (*method, 1): 52.0}
    assert imported.means(found, "last") == {
        ("hopper-medium-v2", "TD3_BC"): (49.0, 1.0, 2)
    }


def test_the_table_of_runs_of_wandb(tmp_path):
    path = table(
        tmp_path / "runs.csv",
        ["Name", "State", "env", "seed", "normalize_reward", "d4rl_normalized_score"],
        [
            "IQL-walker2d-medium-v2-1a",
            "finished",
            "walker2d-medium-v2",
            4,
            "True",
            80.5,
        ],
        ["IQL-walker2d-medium-v2-2b", "crashed", "walker2d-medium-v2", 5, "True", ""],
    )
    assert scores(series(path)) == {("IQL", "walker2d-medium-v2", 4): 80.5}


def test_names_of_jax_corls_metrics_tell_the_dataset(tmp_path):
    path = table(
        tmp_path / "panel.csv",
        ["Step", "eager-sea-3 - walker2d-expert-v2/final_normalized_score"],
        [1000, 99.5],
    )
    assert scores(series(path, method="IQL")) == {
        ("IQL", "walker2d-expert-v2", 0): 99.5
    }
    with pytest.raises(UserError, match=r"line 2 names no method.*--method"):
        series(path)


def unifloral(folder, seed, dataset="offjax-hopper-medium-v0", **more):
    folder.mkdir(exist_ok=True)
    values = np.array([[10.0, 20.0], [30.0, 40.0]]) + seed
    args = {"algorithm": "iql", "dataset": dataset, "seed": seed, "num_updates": 500}
    arrays = {"final_scores": values, "final_scores_std": values.std(), "args": args}
    np.savez_compressed(folder / f"iql_{dataset}_{seed}.npz", **(arrays | more))


def test_final_returns_of_unifloral(tmp_path):
    for seed in (3, 4):
        unifloral(tmp_path / "final_returns", seed)
    found = series(tmp_path / "final_returns")
    method = ("iql", "offjax/hopper/medium-v0")
    assert scores(found) == {(*method, 3): 28.0, (*method, 4): 29.0}
    assert found[0].points == {500: (28.0, 4)}


def test_nothing_in_a_file_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    unifloral(tmp_path / "f", 0, args=np.array(Evil(), object))
    with pytest.raises(UserError, match="not data"):
        series(tmp_path / "f")
    assert not (tmp_path / "made").exists()


def log(folder, config, *lines):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "history.jsonl").write_text(text)


def test_what_the_stand_in_for_wandb_logs(tmp_path):
    corl = {"name": "IQL-hopper-medium-v2-77", "env": "hopper-medium-v2", "seed": 1}
    log(
        tmp_path / "wandb_local" / "a",
        corl,
        {"_step": 1, "actor_loss": 0.5},
        {"_step": 10, "d4rl_normalized_score": 20.0},
        {"_step": 20, "d4rl_normalized_score": 15.0},
    )
    jax_corl = {"algo": "XQL", "env_name": "hopper-medium-v2", "seed": 42}
    log(
        tmp_path / "wandb_local" / "b",
        jax_corl,
        {"_step": 5, "hopper-medium-v2/normalized_score": 1.0},
        {"_step": 6, "hopper-medium-v2/final_normalized_score": 2.0},
    )
    log(tmp_path / "wandb_local" / "stopped", corl)
    found = scores(series(tmp_path / "wandb_local" / "a"))
    assert found == {("IQL", "hopper-medium-v2", 1): 15.0}
    found = scores(series(tmp_path / "wandb_local" / "b"))
    assert found == {("XQL", "hopper-medium-v2", 42): 2.0}
    with pytest.raises(UserError, match="hold no results"):
        series(tmp_path / "wandb_local" / "stopped")
    # Each run may name its result in its own way; one that was stopped has none.
    assert len(series(tmp_path / "wandb_local")) == 2


def test_json_of_returns_is_normalized_by_the_datasets_references(tmp_path):
    path = tmp_path / "returns.json"
    entry = {"algorithm": "bc", "env": "hopper-medium-v2"}
    middle = (-20.272305 + 3234.3) / 2
    path.write_text(
        json.dumps(
            [
                {**entry, "seed": 0, "returns": [-20.272305, 3234.3]},
                {**entry, "seed": 1, "returns": [middle, middle]},
            ]
        )
    )
    found = scores(series(path))
    assert found == {
        ("bc", "hopper-medium-v2", 0): pytest.approx(50.0),
        ("bc", "hopper-medium-v2", 1): pytest.approx(50.0),
    }
    path.write_text(json.dumps({"method": "bc", "dataset": "mine-v0", "return": 3}))
    with pytest.raises(UserError, match=r"mine-v0, whose reference scores are not"):
        series(path)


def test_tables_with_and_without_seeds_and_steps(tmp_path):
    path = table(
        tmp_path / "t.csv",
        ["Method", "Dataset", "Score"],
        ["a", "d-v0", 1],
        ["a", "d-v0", 3],
        ["b", "d-v0", 0.5],
    )
    expected = {("a", "d-v0", 0): 100, ("a", "d-v0", 1): 300, ("b", "d-v0", 0): 50}
    assert scores(series(path, scale=100.0)) == expected
    path = table(
        tmp_path / "t.csv",
        ["step", "score_mean", "score_std", "seed"],
        [1, 5, 0, 7],
        [2, 6, 0, 7],
    )
    found = scores(series(path, method="m", dataset="d-v0"))
    assert found == {("m", "d-v0", 7): 6.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no results"),
        ("method,dataset,score\n", "holds no results"),
        ("method,dataset,score\na,d-v0\n", "line 2 has 2 cells under 3 headings"),
        ("method,dataset,score\na,d-v0,good\n", "line 2: score is 'good'"),
        ("method,dataset,loss\na,d-v0,1\n", "no field with `score`.*loss.*--metric"),
        ("method,dataset,my_score,score\na,d,1,2\n", "my_score, score.*--metric"),
        ("method,score\na,1\n", "line 2 names no dataset.*--dataset"),
        ("method,dataset,seed,score\na,d,x,1\n", "the seed is 'x'"),
        ("method,dataset,seed,score\na,d,0,1\na,d,0,2\n", "line 3: seed 0 .*second"),
        ("method,method,score\n", "a column twice"),
        ('method,dataset,score\n"a,d,1\n', "cannot be read"),
    ],
)
def test_malformed_tables_name_the_line(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        series(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.json", "{", r"r\.json cannot be read"),
        ("r.json", "[1]", "entry 1 is no JSON object"),
        ("history.jsonl", '{"score": 1}\n{"sco', "line 2 is half-written"),
        ("history.jsonl", "[]\n", "line 1: it is no JSON object"),
        ("r.npz", "PK\x03\x04", r"r\.npz cannot be read"),
        ("r.txt", "", r"\.npz, \.jsonl, \.csv, \.json"),
    ],
)
def test_malformed_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        series(tmp_path / name)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no file .*none"):
        series(tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"holds no \.npz"):
        series(tmp_path)


@pytest.fixture
def command(experiment):
    def run(*arguments, module="import_scores", code=0):
        done = experiment(module, *arguments)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def test_imported_numbers_stand_beside_measured_ones_with_their_source(
    command, tmp_path
):
    runs = tmp_path / "runs"
    id = "offjax/hopper/medium-v0"
    write_run(runs, "iql", id, seeds=(0, 1), scores=np.array([[10.0], [30.0]]))
    for seed in (0, 1):
        unifloral(tmp_path / "final_returns", seed)
    given = (f"--files={tmp_path / 'final_returns'}", f"--runs_dir={runs}")
    said = command("--source=Unifloral (rerun)", *given).stdout
    assert f"{id}  iql  25.50 ± 0.50  2 seeds" in said
    folder = runs / "reported" / "unifloral-rerun"
    facts = tomllib.loads((folder / "sources.toml").read_text())
    assert facts["unifloral-rerun"]["tables"]["last"]["seeds"] == 2
    with (folder / "values.csv").open() as file:
        assert [float(row["score"]) for row in csv.DictReader(file)] == [25.0, 26.0]
    # Measured numbers stay what they are; imported ones are marked and not ranked.
    plain = board.build(store.read([runs]))
    shown = reported.beside(plain, reported.load([runs]))
    (group,) = shown.groups
    theirs = Column("iql", source="Unifloral (rerun) last")
    assert group.columns == [Column("iql"), theirs]
    assert group.cells[id, theirs].mean == 25.5 and not group.cells[id, theirs].best
    assert group.cells[id, Column("iql")].mean == 20.0
    text = command(f"--runs_dir={runs}", "--reported", module="leaderboard").stdout
    assert "iql ‡Unifloral (rerun) last" in text
    # The same name replaces; what is damaged is said.
    command("--source=unifloral rerun", "--checkpoint=best", *given)
    (again,) = [s for s in reported.load([runs]) if s.label == "unifloral rerun"]
    assert again.tables[0].checkpoint == "best"
    (folder / "sources.toml").write_text("[")
    with pytest.raises(UserError, match=r"unifloral-rerun are damaged"):
        reported.load([runs])


def test_the_command_says_what_is_missing(command):
    assert "--source" in command("--files=x.csv", code=2).stderr
    assert "no file x.csv" in command("--files=x.csv", "--source=s", code=2).stderr
