"""Plans cut out of play, and what planners learn; an end-to-end run is marked long."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets import minari_io
from offjax.datasets.play import ObservationView
from offjax.datasets.text import encode
from offjax.errors import UserError
from offjax.methods import (
    build,
    diffusion_planner,
    lcd,
    mlp_planner,
    observation_vae,
    plans,
)
from offjax.methods.plans import Encoder, PlanView
from offjax.runner.options import Options
from offjax.runner.training import Training, make_jobs
from offjax.types import Model
from tests.methods.language_data import corners

METHODS = ("lcd", "lcd_code", "lcd_thesis", "lcd_hulc", "lcd_mlp", "diffuser")
DOUBLE = Model(
    Encoder("double", 1, None, None, encode_goal=lambda model, x: 2 * x), None, None
)
"""Observations are their own latents, doubled."""


@pytest.fixture(scope="module")
def dataset():
    return corners()


@pytest.fixture(scope="module")
def numbered(dataset):
    """The dataset with observations that say their row."""
    rows = np.arange(len(dataset), dtype=np.float32)
    return dataclasses.replace(dataset, observations=np.stack([rows, -rows], axis=1))


def planner_config(**changes):
    return diffusion_planner.Config(
        **({"horizon": 3, "stride": 4, "batch_size": 500} | changes)
    )


def prepared(dataset, moves="latents", **changes):
    """The arrays, and `seed → batch`."""
    config, view = planner_config(**changes), PlanView(moves)
    blank = dataclasses.replace(config, lr=None, first_weight=None, ema_decay=None)
    data = view.arrays(dataset, blank, {"gcbc": DOUBLE})
    data = jax.tree.map(jnp.asarray, data)

    @jax.jit
    def sample(seed):
        return view.sample(data, jax.random.PRNGKey(seed), config)

    return data, sample


def row_of(observations):
    return np.asarray(observations)[:, 0].astype(int)


def test_subgoals_lie_strides_ahead_and_stay_in_the_span(numbered):
    _, sample = prepared(numbered)
    batch = sample(0)
    assert batch.plans.shape == (500, 3, 4)
    following, present = np.split(np.asarray(batch.plans) / 2, 2, axis=-1)
    np.testing.assert_array_equal(following[:, :-1], present[:, 1:])
    first = row_of(present[:, 0])
    spans = numbered.annotations
    span = np.searchsorted(spans.starts, first, "right") - 1
    for k in range(3):
        expected = np.minimum(first + 4 * (k + 1), spans.ends[span] - 1)
        np.testing.assert_array_equal(
            following[:, k], numbered.observations[expected], err_msg=str(k)
        )
    # Any row of any span may be first, and the text is the span's.
    assert len(set((first - spans.starts[span]).tolist())) == 10
    # Without the padding that all sentences have: the longest is of five words.
    tokens = encode(spans.sentences).tokens[spans.texts[span]]
    np.testing.assert_array_equal(batch.tokens, tokens[:, :5])
    assert set(batch.mask.sum(1).tolist()) == {3, 5}


def test_published_windows(numbered):
    """The last 8 rows of each span, and a full stride before its end."""
    code = {"tail": 8, "full_stride": True, "attend_padding": True}
    _, sample = prepared(numbered, horizon=2, **code)
    batch = sample(1)
    present = np.asarray(batch.plans)[:, 0, 2:] / 2
    place = row_of(present) % 10
    assert set(place.tolist()) == {2, 3, 4, 5}
    assert batch.tokens.shape[1] == 64  # padding that is attended to must be there


def test_frame_offset_stays_in_the_span(numbered):
    _, sample = prepared(numbered, frame_offset=3, full_stride=True)
    batch = sample(1)
    first = row_of(np.asarray(batch.plans)[:, 0, 2:] / 2)
    assert set((first % 10).tolist()) == set(range(9))
    assert (np.asarray(batch.plans)[:, 0, :2] / 2 == numbered.observations[
        np.minimum(first + 4, first // 10 * 10 + 9)
    ]).all()  # fmt: skip


def test_actions_between_states(numbered):
    data, sample = prepared(numbered, "actions", standardize=True)
    batch = sample(0)
    assert batch.plans.shape == (500, 3, 4 * 2 + 2)
    plans = np.asarray(batch.plans)
    first = row_of(plans[:, 0, 8:] / 2)
    end = first // 10 * 10 + 10
    for k in range(12):
        found = plans[:, k // 4, 2 * (k % 4) : 2 * (k % 4) + 2]
        inside = first + k < end
        np.testing.assert_array_equal(
            found[inside], numbered.actions[(first + k)[inside]]
        )
        assert not found[~inside].any()
    mean = 2 * numbered.observations.mean(0)
    np.testing.assert_allclose(data.mean[-2:], mean, atol=1e-5)
    np.testing.assert_allclose(data.std[:2], numbered.actions.std(0), rtol=1e-4)


def test_a_stride_that_nothing_can_fill(dataset):
    with pytest.raises(UserError, match=r"longest has 10 rows, but stride=10"):
        prepared(dataset, stride=10)
    with pytest.raises(UserError, match="tail=5"):
        prepared(dataset, stride=5, tail=5)
    prepared(dataset, horizon=4, stride=3)  # rows 0, 3, 6, 9
    for changes in ({"horizon": 5}, {"horizon": 4, "tail": 9}):
        with pytest.raises(UserError, match=r"no trajectory can fill.*has 10 rows"):
            prepared(dataset, stride=3, **changes)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("lcd", {"sampling_steps": 21}, "sampling_steps is 21.*diffusion_steps=20"),
        ("lcd", {"planner.diffusion_steps": 5}, "sampling_steps is 10.*choose 1 … 5"),
        ("lcd", {"sampling_steps": 0}, "sampling_steps is 0"),
        ("lcd", {"eta": 1.5}, "eta is 1.5"),
        ("lcd", {"sampler": "euler"}, "sampler is 'euler'"),
        ("lcd", {"rows": 3}, "rows is 3.*horizon=2"),
        ("lcd", {"replan": 9}, "replan is 9.*spans 8 steps"),
        ("lcd_mlp", {"replan": 9}, "replan is 9.*spans 8 steps"),
        ("lcd_mlp", {"planner.horizon": 0}, "horizon is 0"),
        ("lcd_mlp", {"planner.stride": 0}, "stride is 0"),
        ("diffuser", {"rows": 1, "replan": 5}, "plan of 1 rows.*spans 4 steps"),
        ("diffuser", {"replan": 9}, "replan is 9.*spans 8 steps"),
        ("lcd", {"planner.horizon": 4}, "no trajectory can fill"),
        ("lcd", {"planner.held_out": "pink"}, "held_out names pink"),
        ("lcd", {"planner.text_encoder": "minilm"}, "'minilm' needs weights"),
        ("lcd", {"planner.text_encoder": "table"}, "table needs text_weights"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_training(
    dataset, tmp_path, method, settings, message
):
    short = {"planner.horizon": 2, "planner.stride": 4, "replan": 8}
    overrides = {name: (value,) for name, value in (short | settings).items()}
    options = Options(num_seeds=1, runs_dir=str(tmp_path), quiet=True)

    def training(overrides):
        (job,) = make_jobs(method, "demo", dataset, overrides)
        return Training.of(job, method, "demo", dataset, options)

    training({name: (value,) for name, value in short.items()})
    with pytest.raises(UserError, match=message):
        training(overrides)


def test_held_out_instructions_are_never_seen(numbered):
    _, sample = prepared(numbered, held_out=("red", "blue"))
    batch = sample(0)
    spans = numbered.annotations
    first = row_of(np.asarray(batch.plans)[:, 0, 2:] / 2)
    span = np.searchsorted(spans.starts, first, "right") - 1
    assert {spans.names[i] for i in spans.instructions[span]} == {"green", "white"}
    with pytest.raises(UserError, match="held_out names pink"):
        prepared(numbered, held_out=("pink",))
    with pytest.raises(UserError, match="leaves no span"):
        prepared(numbered, held_out=tuple(spans.names))


def test_plans_are_cut_from_rollouts(numbered, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    name, wide = "rollouts/gcbc-corners-v0", "rollouts/wide-corners-v0"
    observations = numbered.observations + 5000
    others = dataclasses.replace(
        numbered,
        card=dataclasses.replace(numbered.card, id=name),
        observations=observations,
        next_observations=np.concatenate([observations[1:], observations[-1:]]),
    )
    with pytest.raises(UserError, match=name):
        prepared(numbered, rollouts=name)
    minari_io.write(others, {}, tmp_path)
    _, sample = prepared(numbered, rollouts=name)
    assert row_of(np.asarray(sample(0).plans)[:, 0, 2:] / 2).min() >= 5000
    three = np.concatenate([observations, observations[:, :1]], axis=1)
    spec = dataclasses.replace(numbered.spec, observation_dim=3)
    others = dataclasses.replace(
        others,
        card=dataclasses.replace(others.card, id=wide),
        observations=three,
        next_observations=np.concatenate([three[1:], three[-1:]]),
        spec=spec,
    )
    minari_io.write(others, {}, tmp_path)
    with pytest.raises(UserError, match="3 observed numbers"):
        prepared(numbered, rollouts=wide)


def test_compound_instructions_go_with_their_parts(numbered):
    spans = numbered.annotations
    names = ("red", "blue+red", "green+white", "green+white+blue")
    compound = dataclasses.replace(spans, names=names)

    def left(*held_out):
        kept = plans.without(compound, held_out)
        return {names[i] for i in kept.instructions}

    assert left("red") == {"green+white", "green+white+blue"}
    assert left("blue") == {"red", "green+white"}  # "blue" occurs in others alone
    assert left("green+white") == {"red", "blue+red"}
    assert left("green+white+blue") == {"red", "blue+red", "green+white"}
    with pytest.raises(UserError, match="held_out names pink"):
        plans.without(compound, ("pink",))


@pytest.mark.parametrize("preset", ["paper", "small", "demo"])
@pytest.mark.parametrize("method", METHODS)
def test_recipes_are_complete(dataset, method, preset):
    recipe = build(method, dataset.spec, preset)
    low, planner = recipe.stages
    assert planner.name == "planner" and planner.reads == (low.name,)
    assert planner.view.per_seed and isinstance(low.method, Encoder)
    for config in (low.config, planner.config, recipe.acting["sampling"]):
        config.validate()
    actor = recipe.actor(recipe)
    assert actor.period == recipe.acting["sampling"].replan
    assert (actor.stage, actor.text) == (low.name, planner.config.text)


def test_named_settings_are_those_of_their_source():
    code = lcd.code_recipe(None, "paper")
    planner, sampling = code.config("planner"), code.acting["sampling"]
    assert planner.first_weight == 100 and planner.horizon == 4
    assert planner.prediction == "clean" and planner.stride == 16
    assert (sampling.sampler, sampling.rows) == ("ddpm", 1)
    thesis = lcd.thesis_recipe(None, "paper")
    assert thesis.config("planner").first_weight == 10
    assert thesis.config("planner").prediction == "noise"
    assert thesis.acting["sampling"].sampler == "ddim"


def trained(method, data, config, view, updates):
    def step(i, state):
        batch = view.sample(data, jax.random.fold_in(state.key, i), config)
        return method.update(state, batch, config, {})[0]

    state = method.init(jax.random.PRNGKey(0), data, config, {})
    state = jax.jit(lambda s: jax.lax.fori_loop(0, updates, step, s))(state)
    return Model(method, config, state)


def test_regression_learns_where_instructions_lead(dataset):
    """From the middle, one stride of 9 leads close to the corner that is named."""
    data, _ = prepared(dataset, stride=9, horizon=1)
    config = mlp_planner.Config(
        lr=3e-3, stride=9, horizon=1, hidden_dims=(64, 64), ema_decay=0.9
    )
    model = trained(mlp_planner.METHOD, data, config, PlanView(), 400)
    text = encode(["walk towards red", "go to the blue corner"])

    def plan(tokens, mask):
        task = text._replace(tokens=tokens, mask=mask)
        return mlp_planner.plan(model, jnp.zeros(2), task, None, None)[0]

    found = jax.jit(jax.vmap(plan))(text.tokens, text.mask)
    np.testing.assert_allclose(found[:, :2] / 2, [(1, 1), (-1, 1)], atol=0.35)
    np.testing.assert_array_equal(found[:, 2:], 0)


def test_autoencoder_keeps_what_there_is(dataset):
    config = observation_vae.Config(
        lr=3e-3, beta=1e-3, latent_dim=3, hidden_dims=(32,), batch_size=64
    )
    view = ObservationView()
    data = jax.tree.map(jnp.asarray, view.arrays(dataset, config, {}))
    model = trained(observation_vae.METHOD, data, config, view, 500)
    latents = observation_vae.encode_goal(model, dataset.observations)
    assert latents.shape == (len(dataset), 3)
    # A linear map of the latents gives the observations back.
    design = np.concatenate([latents, latents**2, np.ones((len(dataset), 1))], axis=1)
    solution = np.linalg.lstsq(design, dataset.observations, rcond=None)[0]
    assert np.abs(design @ solution - dataset.observations).std() < 0.15
    # The divergence of N(mean, std²) from N(0, 1), and the error, by hand.
    params, key = model.state.vae.params, jax.random.key(1)
    center = data.statistics.observation_mean[None]  # standardized, it is zero
    one, noise = jnp.zeros((1, 2)), jax.random.normal(key, (1, 3))
    network = observation_vae.Network(config, 2)
    decoded, mean, log_std = (
        np.asarray(x[0]) for x in network.apply(params, one, noise)
    )
    variance = np.exp(2 * log_std)
    divergence = 0.5 * np.sum(mean**2 + variance - 1 - np.log(variance))
    loss, _ = observation_vae.vae_loss(params, model.state, center, key, config)
    np.testing.assert_allclose(loss, np.sum(decoded**2) + 1e-3 * divergence, rtol=1e-4)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", ["lcd", "diffuser"])
def test_planners_walk_where_they_are_told(tmp_path, method):
    """End to end, in the plane with its four corners."""
    from offjax.runner.run import recipe, train

    small = {"num_steps": 1000, "batch_size": 64}
    settings = {f"planner.{k}": v for k, v in small.items()}
    settings |= {"planner.stride": 4, "planner.horizon": 2, "sampling.replan": 4}
    settings |= {"planner.width": 16, "planner.multipliers": (1, 2)}
    first = "vae" if method == "diffuser" else "gcbc"
    settings |= {f"{first}.num_steps": 1000}
    data = corners(200)
    run = train(recipe(method, "demo", **settings), data, 1, runs_dir=str(tmp_path))
    sentences = ["go to the red corner", "walk towards white", "go to the blue corner"]
    text = encode(sentences)
    agent = run.agent()
    for i, corner in enumerate([(1, 1), (-1, -1), (-1, 1)]):
        agent.reset(jax.tree.map(lambda x, i=i: x[i], text._asdict()))
        position = np.zeros(2, np.float32)
        for _ in range(16):
            position = np.clip(position + 0.2 * agent.act(position), -1, 1)
        np.testing.assert_allclose(position, corner, atol=0.3)
