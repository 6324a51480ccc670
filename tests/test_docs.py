"""What the documents say of the code."""

import dataclasses
import re
from pathlib import Path

from offjax.leaderboard import board, matrix, matrix_tables, store
from offjax.methods import METHODS
from offjax.sweeps import benchmark
from tools import reference

ROOT = Path(__file__).parents[1]


def test_the_readme_lists_every_method_once():
    text = (ROOT / "README.md").read_text()
    table = text.split("| methods | what they are |")[1].split("\n\n")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if "|" in line]
    listed = re.findall(r"`([a-z0-9_]+)`", " ".join(first_cells))
    assert sorted(listed) == sorted(METHODS)


def test_the_method_of_the_how_to_trains_and_acts(budget_dataset, tmp_path):
    """Its code block, as it stands, is a method."""
    import sys

    import jax
    import numpy as np

    from offjax import methods
    from offjax.runner import run as api

    text = (ROOT / "docs" / "how_to" / "own_method.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    path = tmp_path / "td3_decay.py"
    path.write_text(code)
    sys.path.insert(0, str(tmp_path))
    try:
        import td3_decay
    finally:
        sys.path.remove(str(tmp_path))
    methods.METHODS["td3_decay"] = td3_decay.recipe
    try:
        request = api.recipe(
            "td3_decay", preset="demo", num_steps=3, weight_decay=[0.0, 0.1]
        )
        run = api.train(
            request, budget_dataset, num_seeds=1, runs_dir=str(tmp_path), quiet=True,
            eval_episodes=2,
        )  # fmt: skip
    finally:
        del methods.METHODS["td3_decay"], sys.modules["td3_decay"]
    leaves = jax.tree.leaves(run.states["td3_decay"].actor.params)
    assert all(np.isfinite(x).all() for x in leaves)
    assert any((x[0] != x[1]).any() for x in leaves)


def test_the_readmes_links_lead_somewhere():
    targets = re.findall(r"\]\((?!http)([^)#]+)", (ROOT / "README.md").read_text())
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


def test_the_reference_has_every_method_with_its_hyperparameters():
    pages = "\n".join(reference.method_pages().values())
    for name, builder in METHODS.items():
        assert f"## {name} {{" in pages
        for stage in builder(None, "paper").stages:
            for field in dataclasses.fields(stage.config):
                assert f"`{field.name}`" in pages


def test_the_readmes_matrix_is_that_of_the_exports():
    """`offjax benchmark table --into=README.md` writes it."""
    suite = benchmark.read(benchmark.DEFAULT)
    planned = suite.planned()
    found = store.read([ROOT / "docs" / "leaderboard" / "exports"])
    runs = [run for run in found.runs if (run.dataset, run.method) in planned]
    built = board.build(store.Store(runs, []))
    expected = matrix_tables.markdown(matrix.build(built, planned))
    text = (ROOT / "README.md").read_text()
    shown = text.split("<!-- board -->")[1].split("<!-- /board -->")[0]
    assert shown.strip() == expected.strip()
