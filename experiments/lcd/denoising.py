"""How well a planner denoises, noise level by noise level.

    python -m experiments.lcd.denoising --run=runs/…/lcd_thesis/…
        [--seed=0] [--count=500] [--clip=3] [--data_dir=FOLDER]

Takes recorded plans of the run's own data, adds the noise of each step t of the
schedule, and reads the clean plan off the network's prediction. Printed are, for the
next latent, which alone is acted upon, in standardized units:

    signal   √ᾱ_t, the share of the plan that is left
    error    root mean square error of the predicted clean plan
    clipped  the same, the prediction clipped to ±clip
    change   that of predicting no change, in the last line

A sampler begins at the last step. Where the error is far above `change` there, what it
begins with is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.lcd.latents import windows
from offjax.cli import command as cli
from offjax.errors import UserError, require_least
from offjax.methods import diffusion, diffusion_planner

if TYPE_CHECKING:
    from offjax.runner.run import Run

FLAGS = flags.FLAGS


def table(
    predict: Callable[[jax.Array, jax.Array], jax.Array],
    plans: jax.Array,
    betas: np.ndarray,
    kind: str,
    clip: float,
) -> np.ndarray:
    """Rows [N + 1, 3] of signal, error and clipped error; the last is no change's.

    Args:
      predict: `(noisy plans [n, H, 2 Z], times [n]) → prediction`, of the plans' shape.
      plans: standardized, moves first.
      betas: the schedule [N].
      kind: of the prediction, one of `diffusion.PREDICTIONS`.
      clip: bound of the clipped prediction; 0: none.
    """
    following, present = jnp.split(plans[:, 0], 2, axis=-1)
    dim = following.shape[-1]

    def rms(found: jax.Array) -> float:
        return float(jnp.sqrt(jnp.mean((found - following) ** 2)))

    rows = []
    for time, bar in enumerate(diffusion.alpha_bars(betas)):
        noise = jax.random.normal(jax.random.PRNGKey(time), plans.shape)
        times = jnp.full(len(plans), time)
        noisy = diffusion.add_noise(plans, noise, times, betas)
        noisy = noisy.at[:, 0, dim:].set(present)
        clean = diffusion.to_clean(predict(noisy, times), noisy, bar, kind)
        found = clean[:, 0, :dim]
        clipped = jnp.clip(found, -clip, clip) if clip else found
        rows.append((bar**0.5, rms(found), rms(clipped)))
    return np.array([*rows, (np.nan, rms(present), rms(present))])


def errors(run: Run, seed: int, count: int, clip: float) -> np.ndarray:
    """`table` of `count` recorded plans with one seed's planner.

    Raises:
      UserError: the run has no planner that diffuses latents, or not that seed.
    """
    params, batch, dim = windows(run, seed, count)
    model = params.models["planner"]
    config, state = model.config, model.state
    if not isinstance(config, diffusion_planner.Config) or len(state.mean) != 2 * dim:
        raise UserError(
            f"The planner of {run.path} does not diffuse latents: name a run of lcd."
        )
    plans = (batch.plans - state.mean) / state.std
    network = diffusion_planner.unflatten(
        state.ema, config, plans.shape[-1], batch.tokens.shape[-1]
    )

    @jax.jit
    def predict(noisy: jax.Array, times: jax.Array) -> jax.Array:
        return diffusion_planner.denoise(
            network, noisy, times, batch.tokens, batch.mask, config
        )

    return table(predict, plans, config.betas, config.prediction, clip)


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    flags.DEFINE_string("run", None, "Folder of a finished run with a planner.")
    flags.DEFINE_integer("seed", 0, "Which seed's planner.")
    flags.DEFINE_integer("count", 500, "Number of windows.")
    flags.DEFINE_float("clip", 3.0, "Bound of the clipped prediction; 0: none.")
    flags.DEFINE_string("data_dir", None, "Root of the datasets.")


def main(_: list[str]) -> None:
    """Prints the table."""
    from offjax.catalog.load import load_dataset
    from offjax.devices.layout import prepare_host_devices
    from offjax.runner.run import finished, load_run

    if not FLAGS.run:
        raise UserError("--run is missing: name the folder of a finished run.")
    require_least(1, count=FLAGS.count)
    require_least(0, clip=FLAGS.clip)
    prepare_host_devices(None)
    name = finished(FLAGS.run).config["dataset"]
    run = load_run(FLAGS.run, load_dataset(name, FLAGS.data_dir))
    *rows, change = errors(run, FLAGS.seed, FLAGS.count, FLAGS.clip)
    print(" t  signal    error  clipped")
    for time, (signal, error, clipped) in enumerate(rows):
        print(f"{time:2d}  {signal:.4f} {error:8.3f} {clipped:8.3f}")
    print(f"change     {change[1]:8.3f}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
