"""Windows that policies learn from, and how they act on instructions and subgoals."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, annotate
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.datasets.text import encode
from offjax.envs import scene
from offjax.methods import build, gcbc
from offjax.types import EnvSpec, Model, Params

SPEC = EnvSpec("play", 2, (-1.0,), (1.0,), 40, domain="play")
LENGTHS = (40, 40)
STARTS, ENDS = np.array([2, 10, 45]), np.array([9, 30, 48])
SENTENCES = ("open it", "close it")


def dataset():
    """Two episodes whose observations name their row."""
    rows = np.arange(80)
    recording = Dataset.from_arrays(
        np.stack([rows, -rows], axis=-1).astype(float),
        np.sin(rows)[:, None],
        np.zeros(80),
        np.zeros(80),
        rows % 40 == 39,
        spec=SPEC,
    )
    texts = np.array([0, 1, 1])
    annotations = Annotations(STARTS, ENDS, texts, texts, SENTENCES, SENTENCES)
    return annotate(recording, annotations)


@functools.cache
def sampled(name, **settings):
    """A batch of a recipe's stage, as NumPy."""
    stage = build(name, SPEC, "demo").stages[0]
    config = dataclasses.replace(stage.config, batch_size=400, **settings)
    data = jax.tree.map(jnp.asarray, stage.view.arrays(dataset(), config, {}))
    batch = jax.jit(lambda key: stage.view.sample(data, key, config))(jax.random.key(0))
    return jax.tree.map(np.asarray, batch), config


def test_chunks_of_spans_end_with_them_and_have_their_sentence():
    batch, config = sampled("gcbc")
    assert batch.states is None
    spans = batch.language
    rows = spans.observations[:, 0].astype(int)
    span = np.searchsorted(ENDS, rows, "right")
    assert (rows >= STARTS[span]).all()
    assert set(rows) == {
        r for a, b in zip(STARTS, ENDS, strict=True) for r in range(a, b)
    }
    counted = np.minimum(config.chunk, ENDS[span] - rows)
    np.testing.assert_array_equal(spans.mask.sum(1), counted)
    for i in range(50):
        expected = np.sin(np.arange(rows[i], rows[i] + counted[i]))
        np.testing.assert_allclose(
            spans.actions[i, : counted[i], 0], expected, atol=1e-5
        )
    sentences = encode(SENTENCES).sentence
    np.testing.assert_array_equal(spans.goals, sentences[np.minimum(span, 1)])


def test_goal_states_lie_ahead_in_the_same_episode():
    batch, _ = sampled("gcbc_goal", goal_offset=5)
    assert batch.language is None
    ahead = batch.states.goals[:, 0] - batch.states.observations[:, 0]
    assert set(ahead) == {1, 2, 3, 4, 5}
    same = batch.states.goals[:, 0] // 40 == batch.states.observations[:, 0] // 40
    assert same.all()
    assert (batch.states.mask == 1).all()


def test_windows_repeat_their_last_step_and_stay_in_episode_or_span():
    batch, _ = sampled("hulc", window=6, min_window=4)
    for windows in (batch.play, batch.language):
        rows, mask = windows.observations[..., 0].astype(int), windows.mask > 0
        counts = mask.sum(1)
        np.testing.assert_array_equal(mask, np.arange(6) < counts[:, None])
        expected = rows[:, :1] + np.minimum(np.arange(6), counts[:, None] - 1)
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_allclose(windows.actions[..., 0], np.sin(rows), atol=1e-5)
    assert set((batch.play.mask > 0).sum(1)) == {4, 5, 6}
    rows = batch.play.observations[..., 0] // 40
    assert (rows[:, 0] == rows[:, -1]).all()


def test_windows_of_spans_begin_where_enough_of_the_span_is_left():
    batch, _ = sampled("hulc", window=6, min_window=4)
    first = batch.language.observations[:, 0, 0].astype(int)
    last = batch.language.observations[:, -1, 0].astype(int)
    span = np.searchsorted(ENDS, first, "right")
    assert (last < ENDS[span]).all()
    # The third span has 3 rows, fewer than a window: it is used whole.
    assert set(first) == {*range(2, 6), *range(10, 27), 45}
    np.testing.assert_array_equal(
        batch.contrasted, (ENDS[span] - 4 - first < 8) | (span == 2)
    )
    sentences = encode(SENTENCES).sentence
    np.testing.assert_array_equal(batch.sentences, sentences[np.minimum(span, 1)])


def initialized(name):
    """The actor of a recipe, with random parameters."""
    recipe = build(name, SPEC, "demo")
    stage = recipe.stages[0]
    config = stage.config
    data = stage.view.arrays(dataset(), config, {})
    shapes = jax.eval_shape(
        lambda key: stage.method.init(key, data, config, {}), jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes.ema
    )
    statistics = data.statistics
    state = shapes.replace(
        actor=(),
        ema=params,
        normalizer=Normalizer.from_statistics(statistics),
        action_box=ActionBox(statistics.action_low, statistics.action_high),
        key=(),
        step=0,
    )
    model = Model(stage.method, config, state)
    return recipe.actor(recipe), Params({stage.name: model})


@pytest.mark.parametrize("name", ["gcbc", "hulc"])
def test_instructions_steer_and_plans_are_kept_for_a_period(name):
    actor, params = initialized(name)
    tasks = actor.embed(SENTENCES)
    np.testing.assert_array_equal(tasks["sentence"], encode(SENTENCES).sentence)

    @jax.jit
    def act(sentence, key):
        task = {"sentence": sentence}
        observation = jnp.array([3.0, -3.0])
        carry = actor.plan(params, actor.begin(params, task, key), observation, key)
        distribution, after = actor.act(params, carry, observation, 0.0, key)
        return distribution.mode(), carry, actor.record(after, distribution.mode())

    one, carry, after = act(tasks["sentence"][0], jax.random.key(0))
    other, _, _ = act(tasks["sentence"][1], jax.random.key(0))
    assert one.shape == (1,)
    assert not np.allclose(one, other)
    shapes = jax.tree.map(jnp.shape, (carry, after))
    assert jax.tree.structure(carry) == jax.tree.structure(after)
    assert shapes[0] == shapes[1]
    if name != "gcbc":
        np.testing.assert_array_equal(carry.inner.plan, after.inner.plan)
        assert actor.period == 16


def test_subgoals_are_the_given_states_a_fixed_number_of_steps_ahead():
    actor, params = initialized("gcbc_goal")
    assert (actor.period, actor.lookahead) == (8, 16)
    actor = dataclasses.replace(actor, lookahead=3)
    goals = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)), jnp.float32)
    key = jax.random.key(0)

    @jax.jit
    def latents(params):
        carry = actor.begin(params, {"goals": goals}, key)
        found = []
        for _ in range(5):
            carry = actor.plan(params, carry, goals[0], key)
            found.append(carry.latent)
            carry = actor.record(carry, jnp.zeros(1))
        return jnp.stack(found), gcbc.encode_goal(params.models["gcbc"], goals)

    found, encoded = latents(params)
    np.testing.assert_allclose(found, encoded[jnp.array([3, 4, 5, 5, 5])], atol=1e-4)


@pytest.mark.parametrize(
    ("method", "readers"),
    [
        ("gcbc", ["gcbc"]),
        ("gcbc_goal", ["gcbc"]),
        ("hulc", []),
        ("mcil", []),
        ("lcd", ["gcbc"]),
        ("lcd_mlp", ["gcbc"]),
    ],
)
def test_several_cubes_are_read_alike_and_in_the_order_of_the_words(method, readers):
    for name, encoder, objects in (
        ("scene", "hash", ()),
        ("cube-triple", "hash_order", (19, 3, 9)),
    ):
        recipe = build(method, scene.spec(name), "small")
        assert {stage.config.text.name for stage in recipe.stages} == {encoder}
        assert recipe.actor(recipe).text.name == encoder
        assert all(recipe.config(reader).objects == objects for reader in readers)
