import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from offjax.errors import UserError
from offjax.leaderboard import board, compare, store

U, M, H = "offjax/maze2d/umaze-v0", "offjax/maze2d/medium-v0", "offjax/hopper/medium-v1"


def episodes(*seeds):
    """[seeds, 1 evaluation, episodes]."""
    return np.array(seeds, float)[:, None]


def built(root):
    return board.build(store.read([root]))


def lines(root, a="bc", b="cfpi"):
    made = built(root)
    columns = compare.column(made, a, "a"), compare.column(made, b, "b")
    return compare.lines(made, *columns)


@pytest.fixture
def root(tmp_path):
    for dataset in (U, M):
        first = episodes([1, 5, 9], [2, 2, 8])
        second = episodes([0, 5, 7], [1, 3, 5])
        for method, returns in (("bc", first), ("cfpi", second)):
            write_run(tmp_path, method, dataset, seeds=(0, 1), episodes=returns)
    write_run(tmp_path, "asp", H)
    return tmp_path


def test_common_episodes_are_compared_one_by_one(root):
    line, _, whole = lines(root)
    assert (line.dataset, line.a, line.b) == (M, 4.5, 3.5)
    # Seed 0: 1, 0, 2. Seed 1: 1, −1, 3.
    assert line.difference.value == 1 and line.difference.half == 0
    assert line.won == pytest.approx((2.5 / 3 + 2 / 3) / 2) and line.episodes == 3
    assert whole.dataset == "" and whole.difference.value == 1
    assert compare.compared(line) == "2 seeds × 3 episodes"


def test_only_common_episodes_are_compared(root):
    """cfpi was evaluated on more episodes, which were hard."""
    returns = episodes([0, 5, 7, -90], [1, 3, 5, -90])
    write_run(root, "cfpi", U, seeds=(0, 1), episodes=returns, run_id="20260101-x",
              info={"start": "2026-01-01T00:00:00"})  # fmt: skip
    found = {line.dataset: line for line in lines(root)}
    assert found[U].b < -19 and found[U].difference.value == pytest.approx(1)
    assert found[U].episodes == 3


def test_scores_are_compared_where_episodes_are_missing(root):
    for path in root.glob("cfpi/**/episodes.csv"):
        path.unlink()
    line = lines(root)[0]
    assert line.difference.value == pytest.approx(1) and np.isnan(line.won)
    assert compare.compared(line) == "2 seeds"


def test_scores_differ_by_what_the_episodes_do(root):
    """A score is 10 per return and 3 more."""
    for path in root.glob("*/**/scores.csv"):
        head, *rows = path.read_text().splitlines()
        texts = [row.split(",") for row in rows]
        scaled = [",".join([*t[:-1], str(10 * float(t[-1]) + 3)]) for t in texts]
        path.write_text("\n".join([head, *scaled]) + "\n")
    assert lines(root)[0].difference.value == pytest.approx(10)


def test_text_and_markdown(root):
    made = built(root)
    a, b = compare.column(made, "bc", "a"), compare.column(made, "cfpi", "b")
    plain = compare.plain(made, a, b)
    assert plain.startswith("A = bc, B = cfpi; last evaluation")
    (line,) = [x for x in plain.splitlines() if x.startswith(U)]
    assert "1.0 [1.0, 1.0]" in line and line.endswith("2 seeds")
    assert "mean of 2" in plain
    text = compare.markdown(made, a, b)
    (line,) = [x for x in text.splitlines() if x.startswith(f"| {U}")]
    assert line.count("|") == 9 and "2 seeds × 3 episodes" in line


def test_needed_seeds_in_words():
    words = [compare.needed(n) for n in (7.0, np.inf, np.nan)]
    assert words == ["7 seeds", "more than 100 seeds", "–"]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("bq", "bc", r"--a=bq is none of .*: asp, bc, cfpi"),
        ("bc", "bc", "both bc"),
        ("bc", "asp", "no dataset in common: bc has .*maze2d.*; asp has .*hopper"),
    ],
)
def test_what_cannot_be_compared_is_refused(root, a, b, message):
    with pytest.raises(UserError, match=message):
        lines(root, a, b)


def test_a_method_of_several_variants_must_be_told_apart(root):
    for k in (5, 6):
        write_run(root, "iql", U, variants=(f"k={k}",), run_id=f"r{k}")
    with pytest.raises(UserError, match=r"2 variants here.*--a='iql \(k=5\)'"):
        lines(root, "iql")
    assert lines(root, "iql (k=5)")[0].dataset == U
    assert lines(root, "iql (k=5)", "iql (k=6)")[0].difference.value == 0
