"""The chapter's tables name what there is; planned and real latents by hand."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import planning
from experiments.lcd import compare, denoising, latents, rollouts, tables, trials
from offjax.cli import command as cli
from offjax.errors import UserError
from offjax.evaluation import scene
from offjax.evaluation.instructions import Trial
from offjax.methods import METHODS, build, diffusion
from offjax.runner import records
from offjax.runner.settings import expand


@pytest.mark.parametrize("name", list(tables.TABLES))
def test_every_entry_can_be_run(name):
    for entry in tables.TABLES[name]:
        assert entry.method in METHODS
        call = tables.command(entry, "offjax/scene/play-v0", "small")
        assert call[:3] == [
            f"--method={entry.method}",
            "--dataset=offjax/scene/play-v0",
            "--preset=small",
        ]
        overrides = cli.parse_grid([a.removeprefix("--config.") for a in call[3:]])
        (job,) = expand(build(entry.method, None, "small"), overrides)
        recipe = job.recipe
        configs = {s.name: s.config for s in recipe.stages} | dict(recipe.acting)
        for setting, value in entry.settings:
            stage, field = setting.split(".")
            found = getattr(configs[stage], field)
            found = ",".join(found) if isinstance(found, tuple) else str(found)
            assert found == value


def test_distances_by_hand():
    recorded = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    planned = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 3.0]])
    present = np.array([[0.0, 2.0], [3.0, 4.0], [0.0, 1.0]])
    found = latents.numbers(latents.Latents(present, recorded, planned))
    real = (1 + np.sqrt(9 + 9) + 1) / 3
    expected = {"error": 4 / 3, "persistence": 4 / 3, "off": 2 / 3, "real": real}
    assert found == pytest.approx(expected)


def test_what_latents_hold_is_readable():
    rng = np.random.default_rng(2)
    places = rng.uniform(-1, 1, size=(3000, 2))
    seen = np.concatenate([places, rng.normal(size=(3000, 3))], axis=1)
    seen = np.tanh(seen @ rng.normal(size=(5, 6)) / 2)
    error, spread = latents.readable(seen, places)
    assert spread == pytest.approx(np.sqrt(2 / 3), rel=0.05)
    assert error < 0.25 * spread
    blind, _ = latents.readable(rng.normal(size=(3000, 6)), places)
    assert spread < blind < 1.4 * spread  # nothing is there: features fit noise


def test_components_are_those_of_most_variance():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    points = rng.normal(size=(500, 3)) * [5, 1, 0.1] @ axes.T + 7
    mean, directions = latents.components(points)
    np.testing.assert_allclose(mean, points.mean(0))
    assert np.abs(np.diag(directions.T @ axes[:, :2])).min() > 0.99


def test_planners_take_the_passes_that_their_sampler_names():
    found = {name: planning.planner(name, "demo")[2:] for name in planning.cases()}
    assert found["lcd ddim 5"] == (5, 16)
    assert found["lcd ddpm 20"] == (20, 16)
    assert found[planning.SCORED] == (10, 8)


def test_cost_of_planning_is_shared_among_the_actions():
    """Every plan of ten takes two seconds."""

    def cost(method, replan, seconds=2.0):
        return planning.Cost(method, 10, 5, replan, 1_000, seconds)

    # An action of the policy below takes two seconds, and an eighth of two to begin.
    measured = [
        cost("lcd", 8), cost("lcd ddim 5", 16), cost("diffuser ddpm 20", 8),
        cost("low-level policy gcbc", 1, 2 + 2 / 8),
    ]  # fmt: skip
    assert measured[1].seconds_per_action == pytest.approx(2 / 10 / 16)
    scored, thesis, itself, _ = planning.ratios(measured)
    below, diffuser, often = (2 + 2 / 8) / 10, 2 / 10 / 8, 2 / 10 / 16
    assert itself == (1, 1)
    assert scored == pytest.approx((1, diffuser / (diffuser + below)))
    assert thesis == pytest.approx((diffuser / often, diffuser / (often + below)))
    assert "ddim 5" in planning.line(measured[1], thesis)


def finished_run(root, method, rows, chains=1, **more):
    """A run folder as the runner leaves it, of two seeds and two trials each."""
    config = {"schema": 1, "method": method, "dataset": "offjax/scene/play-v0"}
    config |= {"eval_episodes": 1, "eval_chains": chains, "eval_seed": 0, **more}
    folder = records.RunFolder.create(root, method, config["dataset"], "0" * 8)
    variant = "preset=small,planner.width=16" if "overrides" in more else "default"
    for seed in (0, 1):
        score = [method, variant, config["dataset"], seed, 5, 1, "0", "0", "0"]
        folder.append("scores.csv", [score])
    folder.append("episodes.csv", [(variant, *row) for row in rows])
    records.write_json(folder.path / "config.json", config)
    records.write_json(folder.path / "run.json", {"schema": 1, "status": "finished"})
    return folder


ROWS = [(0, 4, 0, 0, 9), (0, 5, 0, 1, 70), (0, 5, 1, 3, 80), (1, 5, 0, 0, 150),
        (1, 5, 1, 5, 90)]  # fmt: skip
"""(seed, step, trial, solved, steps); a single instruction, then a chain."""


def test_runs_are_found_with_what_distinguishes_them(tmp_path):
    finished_run(tmp_path, "lcd", ROWS)
    finished_run(tmp_path, "lcd", ROWS, overrides={"planner.width": [16]})
    finished_run(tmp_path, "oracle", ROWS)
    found = trials.entries(str(tmp_path), "offjax/scene/play-v0", ["lcd"])
    assert [e.label for e in found] == ["oracle", "lcd", "lcd planner.width=16"]
    assert found[1].seeds == (0, 1)
    with pytest.raises(UserError, match="no finished run on other"):
        trials.entries(str(tmp_path), "other", [])


def test_a_runs_own_trials_are_read_where_they_are_as_many(tmp_path):
    finished_run(tmp_path, "lcd", ROWS)
    (entry,) = trials.entries(str(tmp_path), "offjax/scene/play-v0", [])
    chain = Trial(0, ("open_drawer",) * 5, ("",) * 5)
    given = scene.Trials([Trial(0, ("open_drawer",), ("",))], [chain])
    singles, chained = trials._own(entry, given)
    assert singles.solved.tolist() == [[1], [0]]
    assert singles.steps.tolist() == [[70], [150]]
    assert chained.solved.tolist() == [[3], [5]]
    assert trials._own(entry, scene.Trials(given.singles * 2, [chain])) is None


def test_intervals_draw_seeds_and_trials():
    same = compare.interval(np.full((3, 20), 0.5))
    assert same == pytest.approx((0.5, 0.5, 0.5))
    rng = np.random.default_rng(1)
    solved = (rng.random((50, 400)) < 0.3).astype(float)
    found = compare.interval(solved)
    assert found.value == solved.mean()
    # Where all outcomes are independent, crossed draws are wider by √3 than needed.
    width = 2 * 1.96 * np.sqrt(3 * 0.21 / solved.size)
    assert (found.high - found.low) == pytest.approx(width, rel=0.15)
    # Trials that all seeds solve alike: the trials alone matter.
    alike = np.tile(solved[:1], (50, 1))
    found = compare.interval(alike)
    width = 2 * 1.96 * np.sqrt(0.21 / 400)
    assert (found.high - found.low) == pytest.approx(width, rel=0.15)


def test_the_table_pairs_differences():
    half = np.tile([1.0, 0.0], (3, 10)) * 100
    cells = {
        "gcbc": {"single": half, "chain": np.full((3, 4), 2.0)},
        "lcd": {"single": half + 10, "chain": np.full((3, 4), 2.5)},
        "gcbc_goal": {"single": half + 20},
    }
    rows, page = compare.table(cells, "gcbc", ["lcd"])
    assert ("lcd", "chain", "2.500", "2.500", "2.500", 3, 4) in rows
    assert "| lcd | 10.0 [10.0, 10.0] | 0.50 [0.50, 0.50] |" in page
    differences = page.partition("Differences to gcbc")[2]
    assert "| lcd |" in differences and "gcbc_goal" not in differences


def test_pairs_are_of_the_same_trials_and_seeds():
    def entry(label, seeds=(0, 1, 2)):
        return trials.Entry(label, label.split()[0], None, seeds)

    found = [
        entry("oracle", (0,)),
        entry("gcbc"),
        entry("gcbc_goal"),
        entry("lcd"),
        entry("lcd planner.width=16", (0, 1)),
        entry("hulc", (3, 4, 5)),
    ]
    assert compare.paired(found, "gcbc") == ["lcd"]
    assert compare.paired(found, "gcbc_goal") == []
    assert compare.paired(found, "lcd") == ["gcbc"]
    assert compare.paired(found, "bc") == []


@pytest.mark.long
def test_references_and_a_second_look(tmp_path):
    """Trials that were carried out are not carried out again."""
    pytest.importorskip("ogbench")
    card = SimpleNamespace(id="offjax/scene/play-v0")
    spec = SimpleNamespace(kwargs=(("scene", "scene"),))
    dataset = SimpleNamespace(card=card, spec=spec)
    bench = trials.Bench(dataset, trials.Sizes(2, 1), report=False)
    trials.add_references(bench, str(tmp_path))
    oracle, random = trials.entries(str(tmp_path), card.id, [])
    assert (
        bench.scores(oracle, "plain").success[0]
        > bench.scores(random, "plain").success[0]
    )
    first = bench.scores(oracle, "shuffled")
    again = trials.Bench(dataset, trials.Sizes(2, 1), report=True)
    assert again.scores(oracle, "shuffled").success == first.success
    assert again.scores(random, "compound") is None
    assert again.trials("gcbc_goal", "compound") is None


def test_rollouts_are_of_runs_that_are_told_and_of_other_chains(tmp_path):
    pytest.importorskip("ogbench")

    def run(given_goals=False, domain="scene", eval_seed=0):
        actor = SimpleNamespace(given_goals=given_goals)
        spec = SimpleNamespace(domain=domain, kwargs=(("scene", "scene"),))
        training = SimpleNamespace(
            dataset=SimpleNamespace(spec=spec),
            options=SimpleNamespace(eval_seed=eval_seed),
        )
        evaluator = SimpleNamespace(agent=lambda: SimpleNamespace(actor=actor))
        return SimpleNamespace(path=tmp_path, training=training, evaluator=evaluator)

    found = rollouts.chains(run(), 3, 1)
    assert len(found) == 3 and all(len(trial.names) == 5 for trial in found)
    with pytest.raises(UserError, match="pursues given states"):
        rollouts.chains(run(given_goals=True), 3, 1)
    with pytest.raises(UserError, match="not of a scene"):
        rollouts.chains(run(domain="calvin"), 3, 1)
    with pytest.raises(UserError, match="eval_seed=1 is the set"):
        rollouts.chains(run(eval_seed=1), 3, 1)


def test_starts_of_the_evaluation_are_omitted():
    def starting(*starts):
        return [Trial(start, ("a",), ("a",)) for start in starts]

    evaluated = scene.Trials(starting(7), starting(5, 6))
    found = rollouts.without_starts(starting(4, 5, 7, 8), evaluated)
    assert [trial.start for trial in found] == [4, 8]


def test_errors_of_a_denoiser_by_hand():
    """One that knows the plan has no error; one that says 0 has the plan's size."""
    rng = np.random.default_rng(0)
    plans = jnp.asarray(rng.normal(size=(50, 4, 6)), jnp.float32)
    betas = diffusion.cosine_betas(5)
    bars = diffusion.alpha_bars(betas)
    np.testing.assert_allclose(
        denoising.table(lambda x, t: plans, plans, betas, "clean", 0.0)[:-1, 0],
        np.sqrt(bars),
    )
    size = float(jnp.sqrt(jnp.mean(plans[:, 0, :3] ** 2)))
    change = float(jnp.sqrt(jnp.mean((plans[:, 0, 3:] - plans[:, 0, :3]) ** 2)))
    zero = denoising.table(lambda x, t: 0 * x, plans, betas, "clean", 3.0)
    np.testing.assert_allclose(zero[:-1, 1:], size, rtol=1e-5)
    np.testing.assert_allclose(zero[-1, 1:], change, rtol=1e-5)

    def noise(x, times):
        bar = bars[int(times[0])]
        return (x - bar**0.5 * plans) / (1 - bar) ** 0.5

    assert denoising.table(noise, plans, betas, "noise", 0.0)[:-1, 1].max() < 2e-3
    wrong = denoising.table(lambda x, t: noise(x, t) + 1.0, plans, betas, "noise", 1.0)
    np.testing.assert_allclose(wrong[:-1, 1], np.sqrt((1 - bars) / bars), rtol=1e-2)
    assert wrong[4, 2] < 3 < wrong[4, 1]
