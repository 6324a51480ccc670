"""HULC: imitation of play with latent plans, steered by goals or instructions.

Mees, Hermann and Burgard, What Matters in Language Conditioned Robotic Imitation
Learning over Unstructured Data, 2022 (arXiv:2204.06252). The goal of a window of play
is its own last observation (any window) or an instruction (annotated ones). A posterior
that sees the window gives a discrete plan p, a prior learns it from the first
observation and the goal z, a recurrent decoder acts:

    L = E[−log π(a_t | p, s_t, z)] + β KL(q ‖ r)       mean of both kinds of goals
        + λ CE(exp(τ) V Lᵀ)                            windows with their own texts
    ∇KL = 0.8 of it through the prior r, 0.2 through the posterior q

with p ~ q(· | s_1 … s_T) one-hot, straight-through; π a mixture of discretized
logistics per entry; V, L unit vectors of a batch's annotated windows and texts, and the
last term a symmetric cross-entropy whose right pairs are on the diagonal. Acting draws
the plan from the prior every `replan` steps.

`Config()` has the published sizes, for two cameras, a static one and the gripper's:
observations are then pixels (`offjax.methods.pixels`). One departure: padded steps of
short windows count nowhere (`padding="repeated"`: they are steps like others, as
published).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offjax.datasets.play import Play, WindowBatch, Windows
from offjax.distributions import Distribution, point
from offjax.errors import UserError, require_option
from offjax.methods.common import TextConfig, pick, start
from offjax.methods.goals import GoalMethod, State, instructed, learn, text_encoder
from offjax.methods.imitation import action_loss, contrastive_loss
from offjax.methods.pixels import CameraConfig, see
from offjax.methods.play_stages import play_stage
from offjax.networks import logistic_mixture
from offjax.networks.hulc import LatentPlanModel
from offjax.networks.perception import described, shift
from offjax.networks.plans import balanced_kl, plan_of
from offjax.networks.trained import trained
from offjax.types import (
    Array,
    EnvSpec,
    Key,
    Model,
    Pytree,
    Recipe,
    Stage,
    Upstream,
    config,
    static,
)

OPTIONS = {
    "encoder": ("cameras", "state"),
    "recognition": ("transformer", "rnn"),
    "plan": ("categorical", "gaussian"),
    "decoder_sees": ("gripper", "all"),
    "padding": ("masked", "repeated"),
    "acting": ("sample", "mode"),
}


@config
class Config(CameraConfig, TextConfig):
    """Hyperparameters; the defaults are HULC's.

    Attributes:
      kl_weight: β.
      kl_mixing: share of the KL's gradient that goes to the prior.
      contrast_weight: λ.
      gripper_weight: of a binary gripper's cross-entropy.
      ema_decay: of the averaged parameters, which act; 0 acts with the last ones.
      encoder: of observations, of "cameras" or of a "state" vector.
      encoder_dims: hidden widths of a state's encoder.
      features: F; of two cameras, each gives half.
      goal_dims: hidden widths of both goal encoders.
      latent_dim: length of z, and of the contrasted vectors.
      plan: "categorical" or "gaussian".
      plan_variables: categorical variables of the plan, or dimensions of the Gaussian.
      plan_classes: classes of each variable.
      prior_dims: hidden widths of the prior.
      recognition: what gives the posterior, a "transformer" or a two-way "rnn".
      recognition_layers, recognition_heads: of the transformer.
      recognition_dim: width of its perceptrons, or of one direction's state.
      recognition_features: length of the window's features (transformer).
      dropout: of the transformer.
      decoder_sees: the "gripper" camera's half of the features, or "all".
      decoder_dim, decoder_layers: width and number of the recurrent layers.
      num_components: K of the mixture.
      num_classes: bins of an action's entry.
      binary_gripper: the action's last entry is -1 or 1.
      contrast: whether there is the contrastive loss.
      projection_dim: hidden width of its projections.
      padding: whether padded steps are "masked" or "repeated" as steps like others.
      augment: random shifts of the cameras' images.
      acting: "sample" of the mixture, or its "mode".
      replan: steps between plans.
      window, min_window: T, longest and shortest window.
      batch_size: windows of each kind of goal.
    """

    lr: float = 2e-4
    kl_weight: float = 0.01
    kl_mixing: float = 0.8
    contrast_weight: float = 3.0
    gripper_weight: float = 1.0
    ema_decay: float = 0.0
    encoder: str = "cameras"
    encoder_dims: tuple[int, ...] = (256,)
    features: int = 128
    goal_dims: tuple[int, ...] = (2048, 2048)
    latent_dim: int = 32
    plan: str = "categorical"
    plan_variables: int = 32
    plan_classes: int = 32
    prior_dims: tuple[int, ...] = (2048, 2048, 2048, 2048)
    recognition: str = "transformer"
    recognition_layers: int = 2
    recognition_heads: int = 8
    recognition_dim: int = 2048
    recognition_features: int = 4096
    dropout: float = static(default=0.1)
    decoder_sees: str = "gripper"
    decoder_dim: int = 2048
    decoder_layers: int = 2
    num_components: int = 10
    num_classes: int = 10
    binary_gripper: bool = True
    contrast: bool = True
    projection_dim: int = 128
    padding: str = "masked"
    augment: bool = True
    acting: str = "sample"
    replan: int = 30
    window: int = 32
    min_window: int = 20
    batch_size: int = 32

    def validate(self) -> None:
        """Raises `UserError` for unknown options, and sizes that do not fit."""
        CameraConfig.validate(self)
        for name, options in OPTIONS.items():
            require_option(name, getattr(self, name), options)
        transformer = self.recognition == "transformer"
        if transformer and self.features % self.recognition_heads:
            raise UserError(
                f"features={self.features} cannot be divided among recognition_heads="
                f"{self.recognition_heads}: choose a multiple of the number of heads."
            )
        if not 1 <= self.min_window <= self.window:
            raise UserError(
                f"Windows of min_window={self.min_window} to window={self.window} "
                "steps do not exist: the shortest must have 1 step or more, and no "
                "more than the longest."
            )
        if (self.encoder == "cameras") != bool(self.cameras):
            raise UserError(
                f"encoder={self.encoder!r} does not fit cameras="
                f"{described(self.cameras) or '()'}: 'cameras' reads data whose "
                "observations are pixels, 'state' all others."
            )
        if len(self.cameras) > 2:
            raise UserError(
                f"The cameras {described(self.cameras)} are more than the static and "
                "the gripper camera that this method reads: use gcbc, or other data."
            )
        if self.decoder_sees == "gripper" and len(self.cameras) < 2:
            raise UserError(
                "decoder_sees='gripper' is the gripper camera's half of the features, "
                f"but there is no second camera (cameras="
                f"{described(self.cameras) or '()'}): set decoder_sees to 'all'."
            )


class Carry(NamedTuple):
    """The plan that is being executed, and the decoder's memory."""

    plan: Array  # [P]
    hidden: Array  # [layers, width]


def _network(config: Config, state: State) -> Any:
    return LatentPlanModel(config, plan_of(config), state.action_box.low.shape[-1])


def init(key: Key, data: Play, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    observations = jnp.zeros((config.window, data.observations.shape[-1]))
    sentence = jnp.zeros(data.sentences.shape[-1])
    action_dim = data.statistics.action_low.shape[-1]
    network: Any = LatentPlanModel(config, plan_of(config), action_dim)
    params = network.init(key, observations, sentence)
    actor = trained(params, optax.adam(config.lr))
    return State(**start(key, data), actor=actor, ema=params)


def _targets(state: State, windows: Windows, config: Config) -> Array:
    """Actions in the unit box; where padding counts, it is the arm at rest."""
    actions = state.action_box.to_unit(windows.actions)
    if config.padding == "repeated":
        moves = jnp.arange(actions.shape[-1]) < actions.shape[-1] - 1
        moves = moves if config.binary_gripper else jnp.ones_like(moves)
        rest = (windows.mask[..., None] == 0) & moves
        actions = jnp.where(rest, 0.0, actions)
    return actions


def actor_loss(
    params: Pytree, state: State, batch: WindowBatch, key: Key, config: Config
) -> tuple[Array, dict[str, Array]]:
    """The loss of a batch, and its parts; `key` draws plans, images and dropout."""
    key, noise_key = jax.random.split(key)
    noise = plan_of(config).noise(noise_key, (2 * batch.sentences.shape[0],))
    return loss_at(params, state, batch, noise, key, config)


def loss_at(
    params: Pytree,
    state: State,
    batch: WindowBatch,
    noise: Array,
    key: Key,
    config: Config,
) -> tuple[Array, dict[str, Array]]:
    """`actor_loss` for given noise of the plans, leading axis 2B, play's first.

    `key` is that of augmentation and dropout.
    """
    network = _network(config, state)
    shift_key, dropout_key = jax.random.split(key)

    def call(method: str, *args: Any) -> Any:
        rngs = {"dropout": dropout_key}
        return network.apply(params, *args, method=method, rngs=rngs)

    half = batch.sentences.shape[0]
    windows: Windows = jax.tree.map(
        lambda *x: jnp.concatenate(x), batch.play, batch.language
    )
    observations = windows.observations
    if config.cameras and config.augment:
        observations = shift(observations, config.cameras, shift_key)
    features = call("encode", see(state, observations, config))
    states = call("encode_state", features[:half, -1])
    texts = call("encode_text", batch.sentences)
    latents = jnp.concatenate([states, texts])
    mask = windows.mask.astype(jnp.float32)
    mask = jnp.ones_like(mask) if config.padding == "repeated" else mask
    window, posterior = call("recognize", features, mask, True)
    prior = call("propose", features[:, 0], latents)
    plan = plan_of(config)
    drawn = plan.sample(posterior, noise)
    heads, _ = call("decode", drawn, features, latents)
    targets = _targets(state, windows, config)
    errors = mask * action_loss(
        heads, targets, config.num_classes, config.gripper_weight
    )
    each = errors.reshape(2, -1).sum(1) / mask.reshape(2, -1).sum(1)
    kl = jnp.mean(balanced_kl(plan, posterior, prior, config.kl_mixing))
    loss = jnp.mean(each) + config.kl_weight * kl
    metrics = {"play/states": each[0], "play/language": each[1], "play/kl": kl}
    if config.contrast:
        ours, theirs, scale = call("project", window[half:], texts)
        contrast = contrastive_loss(ours, theirs, scale, batch.contrasted)
        loss += config.contrast_weight * contrast
        metrics["play/contrast"] = contrast
    return loss, metrics | {"play/loss": loss}


def update(
    state: State, batch: WindowBatch, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One Adam step on a batch of windows, and one of the averaged parameters."""
    return learn(actor_loss, state, batch, config)


# -- acting -------------------------------------------------------------------


def _call(model: Model, method: str, *args: Any) -> Any:
    network = _network(model.config, model.state)
    return network.apply(model.state.ema, *args, method=method)


def _features(model: Model, observations: Array) -> Array:
    return _call(model, "encode", see(model.state, observations, model.config))


def encode_goal(model: Model, observations: Array) -> Array:
    """Latents [..., Z] of raw goal observations [..., O]."""
    return _call(model, "encode_state", _features(model, observations))


def encode_text(model: Model, sentences: Array) -> Array:
    """Latents [..., Z] of embedded instructions [..., E]."""
    return _call(model, "encode_text", sentences)


def empty(model: Model) -> Carry:
    """The carry of an agent that has no plan yet."""
    config = model.config
    hidden = jnp.zeros((config.decoder_layers, config.decoder_dim))
    return Carry(jnp.zeros(plan_of(config).size), hidden)


def begin(model: Model, observation: Array, latent: Array, key: Key) -> Carry:
    """A new plan towards a goal [Z], drawn from the prior, and an empty memory."""
    prior = _call(model, "propose", _features(model, observation), latent)
    plan = plan_of(model.config)
    return empty(model)._replace(plan=plan.sample(prior, plan.noise(key, ())))


def act_towards(
    model: Model, carry: Carry, observation: Array, latent: Array, key: Key
) -> tuple[Distribution, Carry]:
    """The next action, a point, towards the goal [Z] of `begin`; the carry after it."""
    features = _features(model, observation)[None]
    heads, hidden = _call(model, "decode", carry.plan, features, latent, carry.hidden)
    heads = jax.tree.map(lambda x: x[0], heads)
    if model.config.acting == "sample":
        action = logistic_mixture.sample(heads.mixture, key)
    else:
        action = logistic_mixture.mode(heads.mixture)
    if heads.gripper is not None:
        gripper = 2.0 * jnp.argmax(heads.gripper, keepdims=True) - 1.0
        action = jnp.concatenate([action, gripper])
    box = model.state.action_box
    distribution = point(box.from_unit(action), box.shift, box.scale)
    return distribution, carry._replace(hidden=hidden)


METHOD = GoalMethod(
    "hulc",
    1,
    init,
    update,
    encode_goal=encode_goal,
    encode_text=encode_text,
    empty=empty,
    begin=begin,
    act_towards=act_towards,
    cameras=True,
)


def stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `hulc`."""
    plan = {"plan_variables": 16, "plan_classes": 16}
    sizes: dict[str, Any] = pick(preset, paper={}, small=plan, demo=plan)
    return play_stage(METHOD, Config, spec, preset, **sizes, **text_encoder(spec))


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """HULC, which follows the instruction."""
    actor = instructed("hulc", lambda config: config.replan)
    return Recipe("hulc", (stage(spec, preset),), actor)
