"""Reads the fixtures that authors' own code has made, and compares with them."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from offjax.networks.trained import Trained
from offjax.types import Statistics, Transitions

FOLDER = Path(__file__).parents[1] / "fixtures"


class Fixture:
    """One file: `config`, `data` for `init`, and `arrays` by name.

    Weights in it are named NETWORK/LAYER/LEAF, the network being a field of the state.
    """

    def __init__(self, name):
        self.arrays = dict(np.load(FOLDER / f"{name}.npz"))
        self.config = self._part("config")
        names = ("mean", "std", "low", "high")
        statistics = Statistics(*(jnp.asarray(self.arrays[name]) for name in names))
        self.data = SimpleNamespace(statistics=statistics)

    def _part(self, prefix):
        start = f"{prefix}/"
        return {
            k[len(start) :]: v for k, v in self.arrays.items() if k.startswith(start)
        }

    def transitions(self, index):
        """Rows of the batches `index`, one after the other."""
        columns = {name: x[index] for name, x in self._part("batch").items()}
        if isinstance(index, slice):
            columns = {name: x.reshape(-1, *x.shape[2:]) for name, x in columns.items()}
        has_next = columns["terminals"] == 0
        return Transitions(**columns, has_next_action=has_next)

    def begin(self, state):
        """The state with the weights before the first update, in float64."""
        optimized = {
            name: network
            for name, network in vars(state).items()
            if isinstance(network, Trained)
        }
        targets = [n for n in vars(state) if n.startswith("target_")]
        for name, network in optimized.items():
            params = self._like(f"before/{name}", network.params)
            opt_state = jax.tree.map(
                lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x,
                network.opt_state,
            )
            state = state.replace(**{name: Trained(params, opt_state)})
        for name in targets:
            params = self._like(f"before/{name}", getattr(state, name))
            state = state.replace(**{name: params})
        return state

    def check(self, state, prefix, tolerance=1e-9):
        """Asserts that all networks of a state are those of the file."""
        names = {name.split("/")[0] for name in self._part(prefix)}
        assert len(names) > 2
        for name in names:
            found = getattr(state, name)
            found = found.params if isinstance(found, Trained) else found
            expected = self._like(f"{prefix}/{name}", found)
            for a, b in zip(
                jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
            ):
                np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=name)

    def _like(self, prefix, params):
        """The file's weights in the structure of `params`."""

        def leaf(path, x):
            names = [entry.key for entry in path]
            layer = next(n for n in names if n.startswith(("Dense", "LayerNorm")))
            value = jnp.asarray(self.arrays[f"{prefix}/{layer}/{names[-1]}"])
            assert value.shape == x.shape
            return value

        return jax.tree_util.tree_map_with_path(leaf, params)
