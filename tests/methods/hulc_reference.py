"""What the tests of HULC and MCIL share: PyTorch's fixtures and tiny sizes."""

import pathlib
from types import SimpleNamespace

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.datasets.play import WindowBatch, Windows
from offjax.methods import hulc
from offjax.networks.trained import Trained
from offjax.types import Statistics

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
SIZES = {
    "encoder": "state",
    "encoder_dims": (6,),
    "features": 8,
    "goal_dims": (6,),
    "latent_dim": 4,
    "plan_variables": 3,
    "prior_dims": (6,),
    "recognition_dim": 6,
    "recognition_heads": 2,
    "recognition_features": 7,
    "dropout": 0.0,
    "decoder_sees": "all",
    "decoder_dim": 6,
    "num_components": 3,
    "num_classes": 10,
    "projection_dim": 5,
    "window": 5,
    "min_window": 1,
    "batch_size": 3,
    "kl_weight": 0.5,
}


def example(observation_dim=3, action_dim=3, sentence_dim=4):
    """What `init` reads of prepared data."""
    zero, one = np.zeros(observation_dim), np.ones(observation_dim)
    box = np.ones(action_dim)
    return SimpleNamespace(
        observations=np.zeros((1, observation_dim)),
        sentences=np.zeros((1, sentence_dim)),
        statistics=Statistics(zero, one, -box, box),
    )


def flat(tree):
    return flax.traverse_util.flatten_dict(tree["params"], sep="/")


class Reference:
    """A fixture: parameters, batch, noise, and what PyTorch made of them."""

    def __init__(self, name, config):
        self.arrays = dict(np.load(FIXTURES / f"{name}.npz"))
        shapes = jax.eval_shape(
            lambda key: hulc.init(key, example(), config, {}), jax.random.key(0)
        )
        flat_shapes = flat(shapes.actor.params)
        params = self.named("params/")
        assert params.keys() == flat_shapes.keys()
        # Attention keeps its heads apart: [in, heads, size] for [in, heads · size].
        params = {
            n: jnp.asarray(x, jnp.float32).reshape(flat_shapes[n].shape)
            for n, x in params.items()
        }
        self.params = {"params": flax.traverse_util.unflatten_dict(params, sep="/")}
        statistics = example().statistics
        self.state = hulc.State(
            actor=Trained(self.params, ()),
            ema=self.params,
            normalizer=Normalizer.from_statistics(statistics),
            action_box=ActionBox(statistics.action_low, statistics.action_high),
            key=jax.random.key(0),
            step=jnp.int32(0),
        )
        batch = self.named("batch/")
        windows = Windows(
            *(
                jnp.asarray(batch[n], jnp.float32)
                for n in ("observations", "actions", "mask")
            )
        )
        half = len(windows.mask) // 2
        self.batch = WindowBatch(
            jax.tree.map(lambda x: x[:half], windows),
            jax.tree.map(lambda x: x[half:], windows),
            jnp.asarray(batch["sentences"], jnp.float32),
            jnp.asarray(batch["contrasted"]),
        )
        self.noise = jnp.asarray(self.arrays["noise"], jnp.float32)

    def named(self, prefix):
        return {
            n[len(prefix) :]: x for n, x in self.arrays.items() if n.startswith(prefix)
        }

    def check_parts(self, case, metrics):
        """Parts of the loss to 1e-5."""
        expected = {n: x for n, x in self.named(f"{case}/").items() if "/" not in n}
        assert {n.removeprefix("play/") for n in metrics} == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(metrics[f"play/{name}"], value, rtol=1e-5)

    def check(self, case, grads, metrics):
        """The loss, and gradients to 1e-4 of their array's largest."""
        self.check_parts(case, metrics)
        found = flat(grads)
        wanted = self.named(f"{case}/grads/")
        for name, value in wanted.items():
            # A softmax does not see the keys' bias: its gradient is rounding alone.
            size = np.abs(wanted[name.replace("key/bias", "query/bias")]).max()
            np.testing.assert_allclose(
                found[name].reshape(value.shape),
                value,
                rtol=0,
                atol=1e-4 * max(size, 1e-3),
                err_msg=name,
            )
