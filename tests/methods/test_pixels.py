"""Methods on pixels: encoders by NumPy, training and acting, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.play import ChunkBatch, Chunks, Play, WindowBatch, Windows
from offjax.errors import UserError
from offjax.methods import build, fql, gcbc, hulc, iql, mcil, pixels, plans
from offjax.methods.plans import latents_of
from offjax.networks import perception
from offjax.types import Camera, Model, Params, Transitions
from tests.methods import pixel_data
from tests.methods.pixel_data import CAMERAS, LAYERS, SPEC, statistics

B, T, A, E = 3, 4, 2, 64
SEEING = {"cameras": CAMERAS, "convolutions": LAYERS}
RNG = np.random.default_rng(0)


def play(rows=30):
    """What `init` reads of a recording."""
    return Play(
        pixel_data.pixels(RNG, rows),
        RNG.uniform(-1, 1, (rows, A)).astype(np.float32),
        *(np.zeros(1, np.int32) for _ in range(6)),
        sentences=RNG.normal(size=(2, E)).astype(np.float32),
        statistics=statistics(A),
    )


def chunks(goals, length=8):
    actions = RNG.uniform(-1, 1, (B, length, A)).astype(np.float32)
    mask = np.ones((B, length), np.float32)
    return Chunks(pixel_data.pixels(RNG, B), actions, mask, goals)


def windows():
    actions = RNG.uniform(-1, 1, (B, T, A)).astype(np.float32)
    return Windows(pixel_data.pixels(RNG, B, T), actions, np.ones((B, T), np.float32))


def sentences():
    return RNG.normal(size=(B, E)).astype(np.float32)


def transitions():
    return Transitions(
        pixel_data.pixels(RNG, B),
        RNG.uniform(-1, 1, (B, A)).astype(np.float32),
        RNG.normal(size=B).astype(np.float32),
        pixel_data.pixels(RNG, B),
        RNG.uniform(-1, 1, (B, A)).astype(np.float32),
        np.zeros(B, np.float32),
        np.ones(B, bool),
    )


def stage_of(name, index=0, **settings):
    """A method's stage with tiny sizes, on the two cameras."""
    stage = build(name, SPEC, "demo").stages[index]
    known = {field.name for field in dataclasses.fields(stage.config)}
    tiny = {"convolutions": LAYERS, "image_features": 5, "hidden_dims": (8,)}
    tiny |= {"encoder_dims": (8,), "latent_dim": 4, "features": 8} | settings
    changes = {n: v for n, v in tiny.items() if n in known}
    config = dataclasses.replace(stage.config, **changes)
    config.validate()
    return dataclasses.replace(stage, config=config)


BATCHES = {
    "gcbc": lambda: ChunkBatch(None, chunks(sentences())),
    "gcbc_goal": lambda: ChunkBatch(chunks(pixel_data.pixels(RNG, B)), None),
    "hulc": lambda: WindowBatch(windows(), windows(), sentences(), np.ones(B, bool)),
    "mcil": lambda: WindowBatch(windows(), windows(), sentences(), np.ones(B, bool)),
    "bc": transitions,
    "iql": transitions,
    "fql": transitions,
}
RECIPES = ("gcbc", "gcbc_goal", "hulc", "mcil", "bc", "iql", "fql")
QUICK = ("gcbc", "iql")
"""The others take long to compile."""


@dataclasses.dataclass
class Data:
    statistics: object


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in RECIPES],
)
def test_two_updates_learn_and_the_model_acts(name):
    settings = {"window": T, "min_window": 1} if name in ("hulc", "mcil") else {}
    stage = stage_of(name, **settings)
    method, config, batch = stage.method, stage.config, BATCHES[name]()
    data = play() if name in RECIPES[:4] else Data(statistics(A))

    @jax.jit
    def train(key):
        states = [method.init(key, data, config, {})]
        for _ in range(2):
            state, metrics = method.update(states[-1], batch, config, {})
            states.append(state)
        return states, metrics

    (first, second, last), metrics = train(jax.random.key(0))
    assert all(np.isfinite(x) for x in jax.tree.leaves(metrics))
    assert last.step == 2
    kernels = [
        np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(first.actor.params)
        if "Conv_0" in jax.tree_util.keystr(path) and leaf.ndim == 4
    ]
    moved = [
        np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(last.actor.params)
        if "Conv_0" in jax.tree_util.keystr(path) and leaf.ndim == 4
    ]
    assert len(kernels) == 2  # one of each camera
    assert all((a != b).any() for a, b in zip(kernels, moved, strict=True))
    recipe = build(name, SPEC, "demo")
    recipe = dataclasses.replace(recipe, stages=(stage,))
    actor = recipe.actor(recipe)
    params = Params({stage.name: Model(method, config, last)}, recipe.acting)
    frame = play().observations[0]
    if actor.given_goals:
        task = {"goals": play().observations[:3]}
    elif name in RECIPES[:4]:
        task = {"sentence": sentences()[0]}
    else:
        task = None

    @jax.jit
    def act(params, frame):
        carry = actor.begin(params, task, jax.random.key(1))
        carry = actor.plan(params, carry, frame, jax.random.key(2))
        distribution, _ = actor.act(params, carry, frame, 0.0, jax.random.key(3))
        return distribution.mode()

    action = act(params, frame)
    assert action.shape == (A,)
    assert np.all(np.abs(action) <= 10) and np.all(np.isfinite(action))
    del second


# -- encoders and losses by NumPy ---------------------------------------------


def convolve(x, layer, stride):
    """One convolution and its ReLU by loops, in float64: [N, H, W, C]."""
    kernel, bias = (np.asarray(layer[n], np.float64) for n in ("kernel", "bias"))
    size = kernel.shape[0]
    height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
    out = np.empty((len(x), height, width, kernel.shape[-1]))
    for i, j in np.ndindex(height, width):
        patch = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
        out[:, i, j] = np.tensordot(patch, kernel, 3) + bias
    return np.maximum(out, 0)


def dense(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])


def normalize(x, layer, epsilon):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * np.asarray(layer["scale"]) + np.asarray(layer["bias"])


def images_of(rows, cameras):
    """Bytes [N, O] → the images of each camera in [-1, 1], float64."""
    images, begin = [], 0
    for _, height, width in cameras:
        part = rows[:, begin : begin + height * width * 3]
        images.append(part.reshape(-1, height, width, 3) / 127.5 - 1)
        begin += height * width * 3
    return images


def small_encoder(rows, params, cameras=CAMERAS, layers=LAYERS):
    found = []
    for i, x in enumerate(images_of(rows, cameras)):
        mine = params[f"camera{i}"]
        for j, (_, _, stride) in enumerate(layers):
            x = convolve(x, mine[f"Conv_{j}"], stride)
        x = dense(x.reshape(len(x), -1), mine["Dense_0"])
        found.append(normalize(x, mine["LayerNorm_0"], 1e-5))
    return np.concatenate(found, axis=-1)


def hulc_encoder(rows, params, cameras, layers):
    found = []
    for name, x in zip(("static", "gripper"), images_of(rows, cameras), strict=False):
        mine = params[name]
        for j, (_, _, stride) in enumerate(layers):
            x = convolve(x, mine[f"Conv_{j}"], stride)
        widths = [x.reshape(len(x), -1)]
        if name == "static":
            weights = np.exp(x - x.max((1, 2), keepdims=True))
            weights /= weights.sum((1, 2), keepdims=True)
            across = np.linspace(-1, 1, x.shape[2])
            down = np.linspace(-1, 1, x.shape[1])
            places = np.stack(
                [
                    np.einsum("nhwc,w->nc", weights, across),
                    np.einsum("nhwc,h->nc", weights, down),
                ],
                axis=-1,
            )
            widths = [places.reshape(len(x), -1)]
        (x,) = widths
        hidden = 1 if name == "static" else 2
        for j in range(hidden):
            x = np.maximum(dense(x, mine[f"Dense_{j}"]), 0)
        x = dense(x, mine[f"Dense_{hidden}"])
        found.append(normalize(x, mine["LayerNorm_0"], 1e-5))
    return np.concatenate(found, axis=-1)


def scaled(rows):
    return (rows.astype(np.float32) - 127.5) / 127.5


@pytest.mark.parametrize(
    ("cameras", "layers"),
    [
        ((Camera("static", 200, 200), Camera("gripper", 84, 84)), perception.LAYERS),
        ((Camera("static", 64, 64), Camera("gripper", 64, 64)), perception.LAYERS),
        (CAMERAS, ((4, 5, 3), (6, 3, 1))),
        (CAMERAS[:1], LAYERS),
    ],
)
def test_hulcs_encoder_is_that_of_the_paper(cameras, layers):
    """At its published sizes and others; weights large enough to tell places apart."""
    pixels_of = sum(3 * h * w for _, h, w in cameras)
    rows = RNG.integers(0, 256, (2, pixels_of), dtype=np.uint8)
    encoder = perception.CameraEncoder(cameras, 6, layers)
    params = jax.jit(encoder.init)(jax.random.key(0), scaled(rows))
    params = jax.tree.map(lambda x: 2 * x + 0.01, params)
    found = jax.jit(encoder.apply)(params, scaled(rows))
    expected = hulc_encoder(rows, params["params"], cameras, layers)
    assert found.shape == (2, 6 * len(cameras))
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_the_small_encoder_is_convolutions_a_layer_and_a_norm():
    rows = pixel_data.pixels(RNG, 3)
    encoder = perception.PixelEncoder(CAMERAS, 5, LAYERS)
    params = jax.jit(encoder.init)(jax.random.key(0), scaled(rows))
    found = jax.jit(encoder.apply)(params, scaled(rows))
    expected = small_encoder(rows, params["params"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    lead = encoder.apply(params, scaled(rows).reshape(1, 3, -1))
    np.testing.assert_allclose(lead[0], found, atol=1e-6)


def test_clonings_loss_on_pixels_by_numpy():
    stage = stage_of("bc", head="deterministic", augment=False)
    config, batch = stage.config, transitions()
    state = jax.jit(lambda k: stage.method.init(k, Data(statistics(A)), config, {}))(
        jax.random.key(0)
    )
    _, metrics = jax.jit(lambda s: stage.method.update(s, batch, config, {}))(state)
    params = state.actor.params["params"]
    x = small_encoder(batch.observations, params["encoder"])
    x = np.maximum(dense(x, params["network"]["Dense_0"]), 0)
    proposed = np.tanh(dense(x, params["network"]["Dense_1"]))
    expected = np.mean((proposed - batch.actions) ** 2)
    np.testing.assert_allclose(metrics["bc/loss"], expected, rtol=1e-5)


def test_every_network_of_a_method_with_values_sees_for_itself():
    stage = stage_of("iql")
    state = jax.eval_shape(
        lambda k: iql.init(k, Data(statistics(A)), stage.config, {}), jax.random.key(0)
    )
    for network in (state.actor, state.critic, state.value):
        assert set(network.params["params"]) == {"encoder", "network"}


def test_the_flow_sees_once_for_all_of_its_steps():
    """Its actions are those of its velocities at the same features."""
    stage = stage_of("fql", flow_steps=2)
    config = stage.config
    state = jax.jit(lambda k: fql.init(k, Data(statistics(A)), config, {}))(
        jax.random.key(0)
    )
    rows, noise = pixel_data.pixels(RNG, 2), RNG.normal(size=(2, A))
    params = state.flow.params
    found = fql.flow(params, scaled(rows), jnp.asarray(noise, jnp.float32), config)
    seen = small_encoder(rows, params["encoder"]["params"])
    layers = params["network"]["params"]
    for i in range(2):
        x = dense(
            np.concatenate([seen, noise, np.full((2, 1), i / 2)], 1), layers["Dense_0"]
        )
        x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        noise = noise + dense(x, layers["Dense_1"]) / 2
    np.testing.assert_allclose(found, np.clip(noise, -1, 1), atol=1e-5)


def test_images_are_moved_in_training_alone_and_each_update_anew():
    stage = stage_of("iql")
    state = jax.jit(lambda k: iql.init(k, Data(statistics(A)), stage.config, {}))(
        jax.random.key(0)
    )
    large = dataclasses.replace(stage.config, cameras=(Camera("a", 20, 20),))
    batch = transitions()._replace(
        observations=RNG.integers(0, 256, (8, 1200), dtype=np.uint8),
        next_observations=RNG.integers(0, 256, (8, 1200), dtype=np.uint8),
    )
    moved = pixels.shifted(state, batch, large)
    assert moved.observations.dtype == jnp.uint8
    assert (np.asarray(moved.observations) != batch.observations).any()
    later = pixels.shifted(state.replace(step=jnp.int32(1)), batch, large)
    assert (np.asarray(later.observations) != moved.observations).any()
    np.testing.assert_array_equal(moved.actions, batch.actions)
    still = dataclasses.replace(large, augment=False)
    kept = pixels.shifted(state, batch, still)
    np.testing.assert_array_equal(kept.observations, batch.observations)


def test_recordings_of_pixels_are_encoded_in_parts(monkeypatch):
    stage = stage_of("gcbc_goal")
    state = jax.jit(lambda k: gcbc.init(k, play(), stage.config, {}))(jax.random.key(0))
    model, rows = Model(gcbc.METHOD, stage.config, state), pixel_data.pixels(RNG, 7)
    whole = latents_of(model, rows)
    monkeypatch.setattr(plans, "CHUNK_NUMBERS", 3 * rows.shape[1])
    np.testing.assert_allclose(latents_of(model, rows), whole, atol=1e-5)


# -- what is refused ----------------------------------------------------------


def test_methods_of_vectors_refuse_cameras():
    for name in ("td3_bc", "cfpi", "decision_transformer", "bc+sarsa_iqn+best_of_n"):
        with pytest.raises(UserError, match="static 20×24 and gripper 16×16"):
            build(name, SPEC, "small")


def test_wrong_pixels_are_refused_before_training():
    recipe, rows = build("gcbc", SPEC, "small"), pixel_data.pixels(RNG, 2)
    pixels.check(recipe, SPEC, rows)
    with pytest.raises(UserError, match="float32: give images as uint8"):
        pixels.check(recipe, SPEC, rows.astype(np.float32))
    with pytest.raises(UserError, match="of all of its cameras"):
        pixels.check(recipe, SPEC, rows[:, : 20 * 24 * 3])
    other = dataclasses.replace(SPEC, cameras=(Camera("static", 32, 32),))
    with pytest.raises(UserError, match="reads static 20×24 and gripper 16×16, but"):
        pixels.check(recipe, other)
    states = dataclasses.replace(SPEC, cameras=(), observation_dim=3)
    with pytest.raises(UserError, match="bytes, but their environment has no cameras"):
        pixels.check(build("gcbc", states, "small"), states, rows)


def test_acting_refuses_other_images():
    stage = stage_of("bc")
    state = jax.jit(
        lambda k: stage.method.init(k, Data(statistics(A)), stage.config, {})
    )(jax.random.key(0))
    model = Model(stage.method, stage.config, state)
    frame = pixel_data.pixels(RNG)
    with pytest.raises(UserError, match="uint8"):
        model.act(frame / 255, jax.random.key(0))
    with pytest.raises(UserError, match="sizes that the method was trained on"):
        model.act(frame[:-3], jax.random.key(0))


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (gcbc, {"convolutions": perception.LAYERS}, "too small for convolutions"),
        (gcbc, {"convolutions": ((8, 0, 1),)}, "has the entry"),
        (gcbc, {"cameras": ("front",)}, "has the entry 'front'"),
        (gcbc, {"image_features": 0}, "image_features is 0"),
        (gcbc, {"objects": (1, 2, 3)}, "columns of a state vector"),
        (hulc, {"encoder": "state", "decoder_sees": "all"}, "does not fit cameras"),
        (hulc, {"cameras": CAMERAS[:1]}, "no second camera"),
        (hulc, {"cameras": (*CAMERAS, CAMERAS[0])}, "more than the static"),
        (mcil, {"cameras": ()}, "does not fit cameras=\\(\\)"),
    ],
)
def test_settings_that_do_not_fit_cameras_are_refused(module, settings, message):
    with pytest.raises(UserError, match=message):
        module.Config(**(SEEING | settings)).validate()
