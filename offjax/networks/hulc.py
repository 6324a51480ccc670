"""The networks of HULC and MCIL: goals, latent plans, and the decoder of actions.

    e_t = encoder(o_t)                       features of an observation
    z   = LN(f(e_T))  or  z = LN(h(l))       goal: last observation or instruction l
    s   = recognition(e_1 … e_T)             features of the whole window
    posterior(s),  prior(e_1, z)             distributions of the plan p
    a_t ~ decoder(p, e_t, z)                 mixture of logistics, recurrent

Mees et al., What Matters in Language Conditioned Robotic Imitation Learning over
Unstructured Data, 2022 (https://arxiv.org/abs/2204.06252); Lynch and Sermanet, Language
Conditioned Imitation Learning over Unstructured Data, 2020
(https://arxiv.org/abs/2005.07648).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from offjax.networks.logistic_mixture import LOG_SCALE_MIN, LogisticMixture
from offjax.networks.mlp import MLP
from offjax.networks.perception import CameraEncoder, StateEncoder
from offjax.networks.plans import Plan
from offjax.networks.recurrent import BidirectionalRNN, Recurrence
from offjax.networks.transformer import Dropout, Linear
from offjax.types import Array


class GoalEncoder(nn.Module):
    """Normalized goal latents."""

    hidden_dims: Sequence[int]
    latent_dim: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., in] → [..., latent_dim]."""
        return nn.LayerNorm(1e-5)(MLP(self.hidden_dims, self.latent_dim)(x))


class EncoderLayer(nn.Module):
    """Self-attention over all steps and a perceptron, each with residual, then norm."""

    num_heads: int
    hidden_dim: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, mask: Array, train: bool) -> Array:
        """[..., T, D], mask [..., T] of the steps that may be attended to."""
        attention = nn.MultiHeadDotProductAttention(
            self.num_heads,
            dropout_rate=self.dropout,
            broadcast_dropout=False,  # a mask for each window, as PyTorch draws it
            deterministic=not train or self.dropout == 0.0,
            name="attention",
        )
        attended = attention(x, x, x, mask=(mask > 0)[..., None, None, :])
        x = nn.LayerNorm(1e-5, name="norm1")(x + Dropout(self.dropout)(attended, train))
        hidden = nn.relu(Linear(self.hidden_dim, name="hidden")(x))
        out = Linear(x.shape[-1], name="output")(Dropout(self.dropout)(hidden, train))
        return nn.LayerNorm(1e-5, name="norm2")(x + Dropout(self.dropout)(out, train))


class TransformerRecognition(nn.Module):
    """What a window was about: a transformer over its steps, averaged over time."""

    num_layers: int = 2
    num_heads: int = 8
    hidden_dim: int = 2048
    features: int = 4096
    dropout: float = 0.1

    @nn.compact
    def __call__(self, x: Array, mask: Array, train: bool) -> Array:
        """[..., T, D], mask [..., T] → [..., features]; the mean of recorded steps."""
        shape = x.shape[-2:]
        x = x + self.param("positions", nn.initializers.normal(1.0), shape)
        x = Dropout(self.dropout)(x, train)
        for i in range(self.num_layers):
            layer = EncoderLayer(
                self.num_heads, self.hidden_dim, self.dropout, name=f"layer{i}"
            )
            x = layer(x, mask, train)
        # The mean of an affine map is the map of the mean, which is cheaper.
        weights = mask / jnp.sum(mask, axis=-1, keepdims=True)
        mean = jnp.einsum("...t,...td->...d", weights, x)
        return Linear(self.features, name="features")(mean)


class Heads(NamedTuple):
    """What the decoder says of the next action."""

    mixture: LogisticMixture  # of the continuous entries
    gripper: Array | None  # [..., 2] logits of closing and opening, if binary


class ActionDecoder(nn.Module):
    """Rectified recurrent layers and the heads of the action's distribution.

    With `binary_gripper` there is a head of two classes beside the mixture's entries.
    """

    action_dim: int
    width: int = 2048
    num_layers: int = 2
    num_components: int = 10
    binary_gripper: bool = True

    @nn.compact
    def __call__(
        self, context: Array, features: Array, hidden: Array | None
    ) -> tuple[Heads, Array]:
        """Heads at every step of features [..., T, F], and the state after the last.

        `context` [..., C] is the same at all steps: plan and goal. The state `hidden`
        is [num_layers, ..., width]; None is 0.
        """
        constant = nn.Dense(self.width, use_bias=False, name="context")(context)
        x = Linear(self.width, name="in0")(features) + constant[..., None, :]
        states = []
        for i in range(self.num_layers):
            if i > 0:
                x = Linear(self.width, name=f"in{i}")(x)
            before = None if hidden is None else hidden[i]
            x, last = Recurrence(nn.relu, name=f"layer{i}")(x, before)
            states.append(last)
        shape = (*x.shape[:-1], self.action_dim, self.num_components)
        logits, means, log_scales = (
            Linear(shape[-2] * shape[-1], name=name)(x).reshape(shape)
            for name in ("logits", "means", "log_scales")
        )
        mixture = LogisticMixture(logits, means, jnp.maximum(log_scales, LOG_SCALE_MIN))
        gripper = Linear(2, name="gripper")(x) if self.binary_gripper else None
        return Heads(mixture, gripper), jnp.stack(states)


class LatentPlanModel(nn.Module):
    """All networks of HULC or MCIL.

    `config` is an `offjax.methods.hulc.Config`; `action_dim` counts a binary gripper.
    """

    config: Any
    plan: Plan
    action_dim: int

    def setup(self) -> None:
        """The submodules."""
        c = self.config
        self.encoder: Any
        self.recognition: Any
        if c.encoder == "cameras":
            each = c.features // len(c.cameras)
            self.encoder = CameraEncoder(c.cameras, each, c.convolutions)
        else:
            self.encoder = StateEncoder(c.encoder_dims, c.features)
        self.visual_goal = GoalEncoder(c.goal_dims, c.latent_dim)
        self.language_goal = GoalEncoder(c.goal_dims, c.latent_dim)
        self.prior = MLP(c.prior_dims, self.plan.outputs)
        if c.recognition == "transformer":
            self.recognition = TransformerRecognition(
                c.recognition_layers,
                c.recognition_heads,
                c.recognition_dim,
                c.recognition_features,
                c.dropout,
            )
        else:
            self.recognition = BidirectionalRNN(c.recognition_dim, c.recognition_layers)
        self.posterior = Linear(self.plan.outputs)
        self.decoder = ActionDecoder(
            self.action_dim - c.binary_gripper,
            c.decoder_dim,
            c.decoder_layers,
            c.num_components,
            c.binary_gripper,
        )
        if c.contrast:
            self.window_projection = MLP((c.projection_dim,), c.latent_dim)
            self.text_projection = MLP((c.projection_dim,), c.latent_dim)
            start = nn.initializers.constant(math.log(1 / 0.07))
            self.logit_scale = self.param("logit_scale", start, ())

    def encode(self, observations: Any) -> Array:
        """Normalized observations [..., O] → features [..., F]."""
        return self.encoder(observations)

    def encode_state(self, features: Array) -> Array:
        """Features [..., F] of a goal → latents [..., Z]."""
        return self.visual_goal(features)

    def encode_text(self, sentences: Array) -> Array:
        """Embedded instructions [..., E] → latents [..., Z]."""
        return self.language_goal(sentences)

    def recognize(
        self, features: Array, mask: Array, train: bool
    ) -> tuple[Array, Array]:
        """Features [..., T, F] → window's features s, posterior's parameters."""
        window = self.recognition(features, mask, train)
        return window, self.posterior(window)

    def propose(self, features: Array, latents: Array) -> Array:
        """Prior's parameters at features [..., F] with goal [..., Z]."""
        return self.prior(jnp.concatenate([features, latents], axis=-1))

    def decode(
        self, plan: Array, features: Array, latents: Array, hidden: Array | None = None
    ) -> tuple[Heads, Array]:
        """Heads at every step of features [..., T, F], and the state after them.

        HULC's decoder sees the static camera through plan and goal only.
        """
        if self.config.decoder_sees == "gripper":
            features = features[..., features.shape[-1] // 2 :]
        context = jnp.concatenate([plan, latents], axis=-1)
        return self.decoder(context, features, hidden)

    def project(self, window: Array, latents: Array) -> tuple[Array, Array, Array]:
        """Unit vectors of windows and texts, both [B, Z], and the logit scale []."""
        vectors = self.window_projection(window), self.text_projection(latents)
        window, text = (
            v / jnp.maximum(jnp.linalg.norm(v, axis=-1, keepdims=True), 1e-12)
            for v in vectors
        )
        return window, text, self.logit_scale

    def __call__(self, observations: Any, sentence: Array) -> Array:
        """Calls every part on one window and one sentence, to make all parameters."""
        features = self.encode(observations)
        latent = self.encode_state(features[-1]) + self.encode_text(sentence)
        mask = jnp.ones(features.shape[:-1])
        window, posterior = self.recognize(features, mask, False)
        posterior = posterior + self.propose(features[0], latent)
        plan = posterior[..., : self.plan.size]
        if self.config.contrast:
            self.project(window[None], latent[None])
        return self.decode(plan, features, latent)[1]
