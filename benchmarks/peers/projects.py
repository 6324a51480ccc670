"""Times a public project's own TD3+BC, from a local checkout.

python benchmarks/peers/projects.py PROJECT FOLDER UPDATES THREADS

PROJECT is corl (needs torch), jax_corl or unifloral (need jax, flax and optax), or
jax_corl_tiny: layers of 8 on 8 rows, where all but the products counts. The
project's file is executed as it is, up to its `__main__`; outdated imports that timing
does not need (simulators, loggers, parsers of flags) are replaced by stand-ins. Data
are random rows of HalfCheetah's shape, on an accelerator where the project's framework
sees one. After warm-up it waits for a line, and prints the device and the seconds of
UPDATES critic updates (timing.py). unifloral counts two of them as one of its own.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import runpy
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from timing import report

ROWS, OBSERVATION, ACTION, BATCH = 100_000, 17, 6, 256
STAND_INS = ("d4rl", "gym", "wandb", "pyrallis", "omegaconf", "tyro", "distrax", "tqdm")


def random_rows() -> dict[str, np.ndarray]:
    """Rows in D4RL's layout."""
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(ROWS, OBSERVATION)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (ROWS, ACTION)).astype(np.float32),
        "rewards": rng.normal(size=ROWS).astype(np.float32),
        "next_observations": rng.normal(size=(ROWS, OBSERVATION)).astype(np.float32),
        "terminals": np.zeros(ROWS, np.float32),
    }


class Model:
    """Stands in for pydantic's: annotated defaults as attributes."""

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)


class TanhPoint:
    """Stands in for distrax's deterministic distribution under a tanh."""

    def __init__(self, value: Any, bijector: Any = None) -> None:
        self.value: Any = getattr(value, "value", value)
        self.squashed = bijector is not None

    def sample(self, seed: Any = None) -> Any:
        """Its only value."""
        import jax.numpy as jnp

        del seed
        return jnp.tanh(self.value) if self.squashed else self.value


def stand_in(name: str) -> Any:
    """A module whose every attribute can be called and subclassed."""
    module = mock.MagicMock(name=name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    return module


def load(path: Path) -> dict[str, Any]:
    """Everything that the project's file defines."""
    if not path.exists():
        sys.exit(f"{path} is missing: is this a checkout of the project?")
    modules: dict[str, Any] = {name: stand_in(name) for name in STAND_INS}
    modules["omegaconf"].OmegaConf.from_cli.return_value = {}
    modules["pyrallis"].wrap = lambda *_: lambda function: function
    modules["pydantic"] = types.SimpleNamespace(BaseModel=Model)
    modules["distrax"].Deterministic = TanhPoint
    modules["distrax"].Transformed = TanhPoint
    sys.modules.update(modules)
    with contextlib.redirect_stdout(sys.stderr):
        return runpy.run_path(str(path), run_name="timed")


def device(project: str) -> str:
    """Where a project's framework computes here: "cpu" or the accelerator's name."""
    if project == "corl":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    import jax

    return jax.default_backend()


def corl(folder: Path, threads: int) -> Callable[[int], Any]:
    """CORL: eager torch, indices from the host, a log entry for every step."""
    import torch

    torch.set_num_threads(threads)
    place = device("corl")
    found = load(folder / "algorithms/offline/td3_bc.py")
    buffer = found["ReplayBuffer"](OBSERVATION, ACTION, ROWS, place)
    with contextlib.redirect_stdout(sys.stderr):
        buffer.load_d4rl_dataset(random_rows())
    actor = found["Actor"](OBSERVATION, ACTION, 1.0).to(place)
    critics = [found["Critic"](OBSERVATION, ACTION).to(place) for _ in range(2)]
    optimizers = [torch.optim.Adam(m.parameters(), lr=3e-4) for m in (actor, *critics)]
    trainer = found["TD3_BC"](
        max_action=1.0,
        actor=actor,
        actor_optimizer=optimizers[0],
        critic_1=critics[0],
        critic_1_optimizer=optimizers[1],
        critic_2=critics[1],
        critic_2_optimizer=optimizers[2],
        device=place,
    )

    def run(updates: int) -> None:
        for _ in range(updates):
            trainer.train([part.to(place) for part in buffer.sample(BATCH)])
        if place == "cuda":
            torch.cuda.synchronize()

    return run


def jax_corl(folder: Path, threads: int, **sizes: Any) -> Callable[[int], Any]:
    """JAX-CORL: eight unrolled updates in a call."""
    del threads
    import jax
    import jax.numpy as jnp

    found = load(folder / "algos/td3bc.py")
    settings, rows = found["TD3BCConfig"](**sizes), random_rows()
    rows["dones"] = rows.pop("terminals")
    data = found["Transition"](**{k: jnp.asarray(v) for k, v in rows.items()})
    key = jax.random.PRNGKey(0)
    create = found["create_td3bc_train_state"]
    state = create(key, data.observations[0], data.actions[0], settings)
    update = jax.jit(found["TD3BC"]().update_n_times, static_argnums=(3,))

    def run(updates: int) -> None:
        nonlocal state, key
        for _ in range(max(1, updates // settings.n_jitted_updates)):
            key, now = jax.random.split(key)
            state, _ = update(state, data, now, settings)
        jax.block_until_ready(state)

    return run


def unifloral(folder: Path, threads: int) -> Callable[[int], Any]:
    """unifloral: one scan, two critic updates in each of its steps."""
    del threads
    import jax
    import jax.numpy as jnp

    found = load(folder / "algorithms/td3_bc.py")
    args, rows = found["Args"](), random_rows()
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    data = found["Transition"](*(jnp.asarray(rows[name]) for name in names))
    mean, std = data.obs.mean(0), data.obs.std(0)
    actor = found["DeterministicTanhActor"](ACTION, mean, std)
    critic = found["DualQNetwork"](mean, std)
    create, key = found["create_train_state"], jax.random.PRNGKey(0)
    observation, action = jnp.zeros(OBSERVATION), jnp.zeros(ACTION)
    agent = found["AgentTrainState"](
        actor=create(args, key, actor, [observation]),
        actor_target=create(args, key, actor, [observation]),
        dual_q=create(args, key, critic, [observation, action]),
        dual_q_target=create(args, key, critic, [observation, action]),
    )
    step = found["make_train_step"](args, actor.apply, critic.apply, data)
    carry = (key, agent)

    def run(updates: int) -> None:
        nonlocal carry
        carry, _ = jax.lax.scan(step, carry, None, max(1, updates // 2))
        jax.block_until_ready(carry)

    return run


def jax_corl_tiny(folder: Path, threads: int) -> Callable[[int], Any]:
    """JAX-CORL with next to nothing to multiply."""
    return jax_corl(folder, threads, hidden_dims=(8, 8), batch_size=8)


PROJECTS: dict[str, Callable[[Path, int], Callable[[int], Any]]] = {
    "corl": corl,
    "jax_corl": jax_corl,
    "jax_corl_tiny": jax_corl_tiny,
    "unifloral": unifloral,
}


def main(project: str, folder: str, updates: int, threads: int) -> None:
    """Times `updates` updates; the warm-up compiles the same program."""
    if project not in PROJECTS:
        sys.exit(f"unknown project {project}: one of {', '.join(PROJECTS)}")
    run = PROJECTS[project](Path(folder), threads)
    run(updates if project == "unifloral" else 16)
    report(lambda: run(updates), device(project))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
