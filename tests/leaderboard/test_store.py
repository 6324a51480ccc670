import json

import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from offjax.errors import UserError
from offjax.leaderboard import export, store

SCORES = np.array([[10.0, 20.0], [30.0, 40.0]])


def edit(path, **entries):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **entries}))


def kinds(found):
    return sorted({note.kind for note in found.notes})


def test_reads_what_was_written(tmp_path):
    folder = write_run(tmp_path, "cfpi", seeds=(0, 1), scores=SCORES)
    (run,) = store.read([tmp_path]).runs
    assert (run.method, run.dataset, run.path) == (
        "cfpi", "offjax/maze2d/umaze-v0", folder,
    )  # fmt: skip
    assert [curve.seed for curve in run.curves] == [0, 1]
    np.testing.assert_array_equal(run.curves[1].steps, [1000, 2000])
    np.testing.assert_array_equal(run.curves[1].scores, [30.0, 40.0])
    assert run.finished and store.read([tmp_path]).notes == []


def test_finds_runs_at_any_depth_but_not_in_the_stage_store(tmp_path):
    write_run(tmp_path, "bc", "hopper-medium-v2")
    write_run(tmp_path, "bc", "a/b/c/d-v0")
    write_run(tmp_path / "stages", "bc", "hopper-medium-v2")
    inner = next((tmp_path / "bc").rglob("run.json")).parent / "checkpoints" / "1"
    inner.mkdir(parents=True)
    (inner / "config.json").write_text("{}")
    assert len(list(store.find(tmp_path))) == 2
    # A folder called stages elsewhere is an ordinary one.
    assert len(list(store.find(tmp_path / "stages"))) == 1


def test_a_run_folder_itself_can_be_read(tmp_path):
    folder = write_run(tmp_path)
    assert len(store.read([folder]).runs) == 1


@pytest.mark.parametrize("make", [False, True])
def test_no_runs_is_a_clear_error(tmp_path, make):
    root = tmp_path / "empty"
    if make:
        (root / "notes").mkdir(parents=True)
        (root / "notes" / "readme.txt").write_text("no run")
    with pytest.raises(UserError, match=r"empty.*offjax run"):
        store.read([root])


def test_half_written_and_unreadable_lines_are_skipped_and_named(tmp_path):
    path = write_run(tmp_path, seeds=(0, 1), scores=SCORES) / "scores.csv"
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace(",1000,", ",soon,")
    path.write_text(
        "\n".join([*lines, "bc,default,offjax/maze2d/umaze-v0,1,3000,20,5"])
    )
    found = store.read([tmp_path])
    (note,) = found.notes
    assert note.kind == "malformed" and "line 3, 6" in note.text
    np.testing.assert_array_equal(found.runs[0].curves[1].scores, [40.0])


def test_a_last_line_without_its_end_is_not_trusted(tmp_path):
    path = write_run(tmp_path, seeds=(0, 1), scores=SCORES) / "scores.csv"
    text = path.read_text()
    assert text.endswith("40.0\n")
    path.write_text(text[:-3])  # 40.0 → 40, or 4
    found = store.read([tmp_path])
    assert kinds(found) == ["malformed"]
    np.testing.assert_array_equal(found.runs[0].curves[1].scores, [30.0])


def test_unknown_columns_are_ignored_with_a_note(tmp_path):
    path = write_run(tmp_path, seeds=(0, 1), scores=SCORES) / "scores.csv"
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line},{i}\n" for i, line in enumerate(lines)))
    path.write_text(path.read_text().replace("score,0", "score,mood", 1))
    found = store.read([tmp_path])
    assert kinds(found) == ["caution"] and "mood" in found.notes[0].text
    np.testing.assert_array_equal(found.runs[0].curves[0].scores, [10.0, 20.0])


def test_missing_columns_leave_the_run_out_with_a_note(tmp_path):
    write_run(tmp_path, "whole")
    path = write_run(tmp_path, "cut") / "scores.csv"
    path.write_text(path.read_text().replace("return_mean", "reward", 1))
    found = store.read([tmp_path])
    assert [run.method for run in found.runs] == ["whole"]
    assert kinds(found) == ["malformed"] and "return_mean" in found.notes[0].text


def test_a_resumed_run_may_repeat_a_step(tmp_path):
    path = write_run(tmp_path, seeds=(0, 1), scores=SCORES) / "scores.csv"
    first = path.read_text().splitlines()[1]
    path.write_text(path.read_text() + first.replace("10.0", "11.0") + "\n")
    found = store.read([tmp_path])
    np.testing.assert_array_equal(found.runs[0].curves[0].scores, [11.0, 20.0])


@pytest.mark.parametrize("name", ["config.json", "run.json"])
@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_other_schemas_are_left_out_with_a_note(tmp_path, name, schema):
    write_run(tmp_path, "whole")
    edit(write_run(tmp_path, "other") / name, schema=schema)
    found = store.read([tmp_path])
    assert [run.method for run in found.runs] == ["whole"]
    assert kinds(found) == ["schema"] and str(schema) in found.notes[0].text


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", '{"schema": 1}', "[" * 100_000, '{"a": "\udcff"}']
)
def test_broken_json_is_a_note(tmp_path, content):
    write_run(tmp_path, "whole")
    folder = write_run(tmp_path, "broken")
    (folder / "config.json").write_text(content, errors="surrogateescape")
    found = store.read([tmp_path])
    assert [run.method for run in found.runs] == ["whole"]
    assert len(found.notes) == 1 and "broken" in found.notes[0].where


@pytest.mark.parametrize("name", ["config.json", "run.json", "scores.csv"])
def test_a_missing_file_is_a_note(tmp_path, name):
    write_run(tmp_path, "whole")
    (write_run(tmp_path, "broken") / name).unlink()
    found = store.read([tmp_path])
    assert [run.method for run in found.runs] == ["whole"]
    assert kinds(found) == ["malformed"] and name in found.notes[0].text


def test_misshapen_entries_do_not_crash(tmp_path):
    info = {
        "diverged": [{"seed": [1]}, 5, {}], "start": 7, "dataset": "x", "versions": 3,
        "total_steps": "many", "status": {"a": 1},
    }  # fmt: skip
    write_run(tmp_path, info=info, config={"seeds": [[0], "x", None, 0]})
    found = store.read([tmp_path])
    assert found.runs[0].diverged == set() and kinds(found) == ["unfinished"]
    assert found.runs[0].describe("dataset", "identity") is None


def test_unfinished_diverged_and_missing_seeds_are_noted(tmp_path):
    write_run(
        tmp_path,
        seeds=(0, 1),
        scores=SCORES,
        config={"seeds": [0, 1, 2]},
        info={
            "status": "running",
            "total_steps": 9000,
            "diverged": [{"seed": 1, "variant": "default", "stage": "a", "step": 5}],
        },
    )
    found = store.read([tmp_path])
    assert kinds(found) == ["diverged", "missing", "unfinished"]
    texts = " ".join(note.text for note in found.notes)
    assert "step 2000 of 9000" in texts and "[2]" in texts
    assert [curve.diverged for curve in found.runs[0].curves] == [False, True]


def test_rows_of_another_method_are_not_taken(tmp_path):
    path = write_run(tmp_path, "bc", seeds=(0, 1), scores=SCORES) / "scores.csv"
    path.write_text(path.read_text().replace("\nbc,", "\ncfpi,", 1))
    found = store.read([tmp_path])
    assert kinds(found) == ["malformed"] and "1 rows" in found.notes[0].text
    np.testing.assert_array_equal(found.runs[0].curves[0].scores, [20.0])


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    write_run(tmp_path, "bc\x1b[31m\u202e", variants=("a\x07b",))
    run = store.read([tmp_path]).runs[0]
    assert run.method == "bc�[31m�"
    assert run.curves[0].variant == "a�b"
    assert store.clean("größe β") == "größe β"


def add_evaluation(run, name, variant, score, episodes, eval_seed=0, end="\n"):
    folder = run / "evaluations" / name
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps({"eval_seed": eval_seed}))
    head = (run / "scores.csv").read_text().splitlines()[0]
    row = f"bc,{variant},offjax/maze2d/umaze-v0,0,2000,{episodes},{score},0,{score}"
    (folder / "scores.csv").write_text(f"{head}\n{row}{end}")
    head = (run / "episodes.csv").read_text().splitlines()[0]
    (folder / "episodes.csv").write_text(f"{head}\n{variant},0,2000,0,{score},50\n")
    return folder


def test_later_evaluations_add_variants_and_change_none(tmp_path):
    run = write_run(tmp_path, seeds=(0, 1), scores=SCORES)
    add_evaluation(run, "a", "default", 99.0, 100)
    add_evaluation(run, "b", "improve=best_of_n", 50.0, 20)
    add_evaluation(run, "c", "improve=best_of_n", 60.0, 10)
    add_evaluation(run, "d", "improve=best_of_n", 70.0, 500, eval_seed=3)
    found = store.read([tmp_path])
    shown = [(c.variant, c.seed, c.scores[-1]) for c in found.runs[0].curves]
    assert shown == [
        ("default", 0, 20.0), ("default", 1, 40.0), ("improve=best_of_n", 0, 50.0),
    ]  # fmt: skip
    (note,) = found.notes
    assert note.kind == "duplicate" and "improve=best_of_n" in note.text


def test_a_broken_evaluation_leaves_the_run_whole(tmp_path):
    run = write_run(tmp_path, seeds=(0, 1), scores=SCORES)
    (add_evaluation(run, "a", "n=1", 1.0, 1) / "evaluation.json").unlink()
    found = store.read([tmp_path])
    assert kinds(found) == ["malformed"] and len(found.runs[0].curves) == 2


def test_exported_evaluations_are_read_and_checked(tmp_path):
    run = write_run(tmp_path / "runs", seeds=(0, 1), scores=SCORES)
    add_evaluation(run, "a", "n=1", 5.0, 1)
    (folder,), _ = export.write(store.read([tmp_path / "runs"]).runs, tmp_path / "out")
    found = store.read([folder])
    assert [c.variant for c in found.runs[0].curves] == ["default", "default", "n=1"]
    assert export.check(found) == []
    inner = folder / "evaluations" / "a" / "scores.csv"
    inner.write_text(inner.read_text().replace("5.0", "6.0"))
    assert kinds(store.read([folder])) == ["checksum"]
