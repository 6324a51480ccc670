"""Play: the oracles succeed, and what is annotated is what happened."""

import itertools

import numpy as np
import pytest

from offjax.behavior import scene as behavior
from offjax.behavior import scene_collect
from offjax.catalog import collected, load
from offjax.datasets import minari_io
from offjax.datasets.language import LanguageDataset
from offjax.envs import scene_instructions as language
from offjax.envs.scene import Simulator, decode
from offjax.errors import UserError

pytest.importorskip("ogbench")


@pytest.fixture(scope="module")
def simulator():
    return Simulator("scene")


@pytest.fixture(scope="module")
def episode(simulator):
    return behavior.play(simulator, seed=1, length=260)


def test_annotations_hold_what_they_say(simulator, episode):
    scene, known = simulator.scene, language.all_instructions("scene")
    assert len(episode.actions) == 260 and len(episode.observations) == 261
    single = [span for span in episode.spans if "+" not in span.name]
    assert len(single) >= 3
    for span in episode.spans:
        start = decode(scene, episode.observations[span.start])
        end = decode(scene, episode.observations[span.end])
        assert 0 <= span.start < span.end <= 260
        assert language.succeeded(scene, known[span.name], start, end), span
        assert not language.succeeded(scene, known[span.name], start, start), span
    for before, after in itertools.pairwise(single):
        assert before.end <= after.start
    # Cut soon after success: a few steps before the end it is not done yet.
    for span in single:
        start = decode(scene, episode.observations[span.start])
        early = decode(scene, episode.observations[span.end - behavior.AFTER - 1])
        if span.end < 260:
            assert not language.succeeded(scene, known[span.name], start, early)


def test_snapshots_are_of_the_spans_starts(simulator, episode):
    for span, snapshot in zip(episode.spans, episode.snapshots, strict=True):
        observation = simulator.restore(0, snapshot)
        # All but velocities and contact, which are of the step that led here.
        np.testing.assert_allclose(
            observation[:6], episode.observations[span.start, :6], atol=1e-5
        )
        np.testing.assert_allclose(
            observation[19:22], episode.observations[span.start, 19:22], atol=1e-5
        )


def test_play_is_seeded_and_leaves_others_randomness_alone(simulator, episode):
    np.random.seed(5)
    expected = np.random.RandomState(5).uniform()
    again = behavior.play(simulator, seed=1, length=60)
    assert np.random.uniform() == expected
    np.testing.assert_array_equal(again.actions, episode.actions[:60])
    other = behavior.play(simulator, seed=2, length=5)
    assert not np.array_equal(other.actions, episode.actions[:5])


def test_what_is_held_is_let_go_of_first(simulator):
    observation = simulator.reset(0, 4)
    for _ in range(8):
        observation = simulator.step(0, np.array([0, 0, 0, 0, 1.0]))
    oracle = behavior.Oracle(simulator)
    state = decode(simulator.scene, observation)
    known = language.instructions("scene").values()
    oracle.begin(next(i for i in known if language.feasible(simulator.scene, i, state)))
    actions = []
    for _ in range(behavior.LET_GO):
        assert not oracle.done
        actions.append(oracle.action(observation))
        observation = simulator.step(0, actions[-1])
    opening = behavior.LET_GO - 1
    np.testing.assert_array_equal(
        actions[:opening], [[0, 0, 0, 0, -1]] * 4 + [[0, 0, 1, 0, -1]] * 3
    )
    assert np.abs(actions[opening][:2]).max() > 0  # it is under way


def test_cube_targets_keep_clear_of_other_cubes():
    scene = language.get("cube-triple")
    known = language.instructions("cube-triple")
    positions = np.array([[0.4, 0, 0.02], [0.4, 0.1, 0.02], [0.4, -0.29, 0.02]])
    state = decode(scene, np.zeros(46))._replace(cubes=positions)
    rng = np.random.default_rng(0)
    for _ in range(50):
        at = behavior._cube_target(scene, known["move_red_cube_left"], state, rng)
        assert 0.07 <= at[1] <= 0.11 and at[2] == 0.02
        assert np.hypot(*(at[:2] - positions[1, :2])) > 0.06
    at = behavior._cube_target(scene, known["stack_red_on_blue"], state, rng)
    np.testing.assert_allclose(at, [0.4, 0.1, 0.06])


@pytest.mark.long
def test_collected_datasets(tmp_path, monkeypatch):
    """Through the catalogue: several processes and one make the same, also resumed."""
    monkeypatch.setenv("OFFJAX_CACHE", str(tmp_path / "cache"))
    dataset = load.collect_dataset("offjax/scene/play-v0", 1100, data_dir=tmp_path)
    assert isinstance(dataset, LanguageDataset)
    assert len(dataset) == 1100 and len(dataset.episode_ends) == 3
    again = minari_io.read("offjax/scene/play-v0", tmp_path)
    assert len(again.annotations) == len(dataset.annotations) > 10
    work = tmp_path / "work"
    two = scene_collect.generate("scene", 1100, processes=2, folder=work)
    np.testing.assert_array_equal(two["actions"], dataset.actions)
    for index in (0, 2):  # as if it had been broken off
        (work / f"{index}.npz").unlink()
    kept = dict(np.load(work / "1.npz"))
    np.savez(work / "1.npz", **kept | {"actions": 0 * kept["actions"]})
    rows = scene_collect.generate("scene", 1100, processes=1, folder=work)
    expected = dataset.actions.copy()
    expected[500:1000] = 0  # the episode that was there already
    np.testing.assert_array_equal(rows["actions"], expected)
    np.testing.assert_array_equal(rows["annotations"].texts, again.annotations.texts)
    np.testing.assert_array_equal(rows["annotations"].ends, again.annotations.ends)
    known = language.all_instructions("scene")
    for i in range(len(again.annotations)):
        name = again.annotations.names[again.annotations.instructions[i]]
        assert again.annotations.text(i) in known[name].wordings


def test_a_process_that_fails_is_reported(tmp_path):
    with pytest.raises(UserError, match="exit code 1"):
        scene_collect.generate("no-such-scene", 1000, processes=2, folder=tmp_path)


def test_catalogue():
    entry = collected.parse("offjax/cube-triple/play-v0")
    assert entry.spec().observation_dim == 46
    assert entry.size == ("num_transitions", 400_000)
    stacked, plain = (
        collected.specification(collected.Play(name), None, 0)
        for name in ("cube-triple", "scene")
    )
    assert stacked["stacks"] == "as often as moves" and "stacks" not in plain


def test_cubes_are_handled_three_times_as_often_as_furniture(monkeypatch):
    """Stacked as often as moved, and put away as often as moved."""
    monkeypatch.setattr(behavior, "COMPOUND_SHARE", 0)
    rng = np.random.default_rng(0)
    for name, kinds in (
        ("cube-triple", {"left": 3, "right": 3, "stack": 3}),
        ("scene", {"left": 3, "right": 3, "put": 3, "close": 1, "open": 1, "lock": 1}),
    ):
        scene = language.get(name)
        cubes = np.array([[0.4, 0.0, 0.02], [0.4, 0.1, 0.02], [0.4, -0.1, 0.02]])
        state = decode(scene, np.zeros(scene.observation_dim))._replace(
            cubes=cubes[: len(scene.cubes)],
            drawer=np.asarray(language.OPEN_DRAWER),
            window=np.asarray(0.0),
            unlocked=np.ones(2),
        )
        drawn = [behavior._draw(scene, state, rng, "") for _ in range(3000)]
        known = [
            i
            for i in language.instructions(name).values()
            if language.feasible(scene, i, state)
        ]
        assert {i.kind for i in known} == set(kinds)
        weights = [kinds[i.kind] * (0.5 if i.kind == "lock" else 1) for i in known]
        for instruction, weight in zip(known, weights, strict=True):
            share = np.mean([i.name == instruction.name for i in drawn])
            assert abs(share - weight / sum(weights)) < 0.04, instruction.name
