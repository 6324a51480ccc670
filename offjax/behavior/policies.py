"""Policies that collect the robots' data, as NumPy arrays, and where they are kept.

A policy is a multi-layer perceptron that gives the mean and log deviation of a Gaussian
before tanh (`offjax.behavior.sac`). Those of a robot lie in `policies/v1/<robot>.npz`,
weights as float16, one group of arrays per snapshot of a training; `<robot>.csv` says
where each comes from and what it scores, `<robot>.json` how to run the training again,
and `<robot>_curve.csv` what it scored on its way. The policies of the datasets of
version 0, AntMaze's among them, lie in `policies` itself.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from offjax.behavior import ant_goal
from offjax.behavior.sac import LOG_STD_RANGE
from offjax.datasets import checks
from offjax.envs import mujoco
from offjax.envs.batched import BatchedEnv
from offjax.errors import UserError
from offjax.types import EnvSpec

FOLDER = Path(__file__).parent / "policies"
REPLAY = "replay"  # role of the snapshots that make up medium-replay


@dataclasses.dataclass(frozen=True, eq=False)
class Actor:
    """Tanh Gaussian policy in float32; layers from the inputs on."""

    weights: tuple[np.ndarray, ...]  # [in, out] each
    biases: tuple[np.ndarray, ...]  # [out] each

    @property
    def action_dim(self) -> int:
        """A."""
        return len(self.biases[-1]) // 2

    def gaussian(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latent mean and deviation [n, A] of observations [n, O]."""
        x = observations.astype(np.float32)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight + bias, 0)
        mean, raw = np.split(x @ self.weights[-1] + self.biases[-1], 2, axis=-1)
        low, high = LOG_STD_RANGE
        return mean, np.exp(low + 0.5 * (high - low) * (np.tanh(raw) + 1))

    def mode(self, observations: np.ndarray) -> np.ndarray:
        """Deterministic actions [n, A]: tanh of the mean."""
        return np.tanh(self.gaussian(observations)[0])

    def sample(self, observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Actions [n, A] for standard normal noise [n, A]."""
        mean, std = self.gaussian(observations)
        return np.tanh(mean + std * noise.astype(np.float32))


def from_params(params: list[dict[str, np.ndarray]]) -> Actor:
    """The policy of SAC's actor parameters."""
    return Actor(
        tuple(np.asarray(layer["w"], np.float32) for layer in params),
        tuple(np.asarray(layer["b"], np.float32) for layer in params),
    )


def save(path: Path, actors: dict[str, Actor]) -> None:
    """Writes policies by name, rounded to float16."""
    arrays = {
        f"{name}/{kind}{i}": layer.astype(np.float16)
        for name, actor in actors.items()
        for kind, layers in (("w", actor.weights), ("b", actor.biases))
        for i, layer in enumerate(layers)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> dict[str, Actor]:
    """Reads what `save` wrote.

    Raises:
      UserError: the file is damaged, or holds something else than policies.
    """
    advice = (
        "Train policies anew with `python -m experiments.train_behavior`, or take the "
        "file of this package."
    )
    with checks.damaged(f"{path}, a file of policies,", advice):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name].astype(np.float32) for name in file.files}
        actors = {}
        for name in dict.fromkeys(key.rpartition("/")[0] for key in arrays):
            count = sum(key.startswith(f"{name}/w") for key in arrays)
            actors[name] = Actor(
                tuple(arrays[f"{name}/w{i}"] for i in range(count)),
                tuple(arrays[f"{name}/b{i}"] for i in range(count)),
            )
            _check(actors[name])
        if len(arrays) != sum(2 * len(actor.weights) for actor in actors.values()):
            raise ValueError("it holds other arrays than weights and biases")
    return actors


def _check(actor: Actor) -> None:
    """ValueError unless the layers' shapes follow one another and end in pairs."""
    widths = [len(bias) for bias in actor.biases]
    inputs = [weight.shape[0] for weight in actor.weights]
    shapes = [weight.shape for weight in actor.weights]
    if not shapes or shapes != list(zip(inputs, widths, strict=True)):
        raise ValueError(f"weights of shapes {shapes} do not fit biases of {widths}")
    if inputs[1:] != widths[:-1] or widths[-1] % 2:
        raise ValueError(f"layers of shapes {shapes} do not follow one another")


def folder(version: int) -> Path:
    """Where the policies of the datasets of a version lie."""
    return FOLDER if version == 0 else FOLDER / f"v{version}"


def packaged(version: int) -> list[str]:
    """Names of the robots whose policies for a version's datasets are at hand."""
    return sorted(path.stem for path in folder(version).glob("*.npz"))


def spec(robot: str) -> EnvSpec:
    """Where a robot is trained and its policies are scored."""
    return ant_goal.spec() if robot == ant_goal.NAME else mujoco.spec(robot)


def for_role(robot: str, role: str, version: int = 0) -> list[Actor]:
    """The packaged policies of a robot in one role, in order of training.

    Args:
      robot: one of `packaged(version)`.
      role: "expert", "medium" (one policy each), or of version 0 "replay" (at least
        eight); of `ant_goal.NAME` "expert" alone.
      version: of the datasets.

    Raises:
      UserError: the files are missing, damaged, or of another robot.
    """
    names = [row["snapshot"] for row in rows_of(robot, role, version)]
    path = folder(version) / f"{robot}.npz"
    actors = load(path)
    missing = [name for name in names if name not in actors]
    if missing:
        raise UserError(
            f"{path} lacks the policies {', '.join(missing)} that {robot}.csv beside "
            "it names: the two files are not of one training. Put back those of this "
            "package, or train anew with `python -m experiments.train_behavior "
            f"--robot={robot}`."
        )
    body = spec(robot)
    wanted = (body.observation_dim, body.action_dim)
    for name in names:
        found = (len(actors[name].weights[0]), actors[name].action_dim)
        if found != wanted:
            raise UserError(
                f"{path} is not of {robot}: it holds a policy of {found[0]} "
                f"observations and {found[1]} actions, where {robot} has {wanted[0]} "
                f"and {wanted[1]}. Put back the file of this package."
            )
    return [actors[name] for name in names]


def rounded(actor: Actor) -> Actor:
    """The policy as it is after it was stored."""
    half = [
        tuple(layer.astype(np.float16).astype(np.float32) for layer in layers)
        for layers in (actor.weights, actor.biases)
    ]
    return Actor(*half)


def equal(actor: Actor, other: Actor) -> bool:
    """Whether two policies are the same to the last bit."""
    pairs = zip(
        (*actor.weights, *actor.biases), (*other.weights, *other.biases), strict=True
    )
    return all(np.array_equal(one, two) for one, two in pairs)


def digest(robot: str, version: int = 0, file: str = "npz") -> str:
    """SHA-256 of a file of a robot's packaged policies, 16 digits."""
    table(robot, version)
    path = folder(version) / f"{robot}.{file}"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def rows_of(robot: str, role: str, where: int | Path) -> list[dict[str, str]]:
    """Rows of `table` of the policies in one role."""
    return [row for row in table(robot, where) if role in row["roles"].split()]


def table(robot: str, where: int | Path = 0) -> list[dict[str, str]]:
    """Provenance of a robot's packaged policies, in order of training.

    Columns: robot, snapshot, roles, env_steps, updates, return_mean, return_std,
    score, command.

    Args:
      robot: its name.
      where: version of the datasets, or the folder of the files.

    Raises:
      UserError: there are none.
    """
    place = folder(where) if isinstance(where, int) else where
    path = place / f"{robot}.csv"
    if not path.is_file():
        raise UserError(
            f"No policies of {robot!r} are packaged in {place}: train them with "
            f"`python -m experiments.train_behavior --robot={robot}`."
        )
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def evaluate(
    actor: Actor,
    env: BatchedEnv,
    horizon: int,
    seed: int,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Returns of one episode of at most `horizon` steps in each place of `env`, [N].

    Place i begins from seed + i. The policy takes its mode, or samples where there is
    an `rng`.
    """
    alive = np.arange(env.num_envs)
    observations = env.reset(alive, [seed + i for i in range(env.num_envs)])
    returns = np.zeros(env.num_envs)
    for _ in range(horizon):
        if rng is None:
            actions = actor.mode(observations)
        else:
            noise = rng.standard_normal((env.num_envs, actor.action_dim))
            actions = actor.sample(observations, noise[alive])
        observations, rewards, terminals = env.step(alive, actions)
        returns[alive] += rewards
        alive, observations = alive[~terminals], observations[~terminals]
        if not alive.size:
            break
    return returns
