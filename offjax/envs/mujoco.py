"""Hopper, HalfCheetah, Walker2d and Ant on MuJoCo's batched engine.

`mujoco.batch` (MuJoCo 3.17 and later) steps many simulations on its own threads, with
Gymnasium's results bit for bit: the same XML files, resets and order of operations.

- Version "v4" is what D4RL's "-v2" datasets were recorded with: the alive bonus is paid
  on the last step too. Newer MuJoCo takes the sum of two geoms' contact margins where
  the one of D4RL's days took the larger; only hopper.xml sets any. By default the
  margins of v4 are halved where the installed MuJoCo adds them, which gives the old
  trajectories; `("margins", "installed")` in the spec's kwargs leaves them.
- Version "v5" is Gymnasium's newest, on the simulator as it is: no bonus on the step
  that falls, another friction of a Walker2d foot, contact forces in Ant.

Source: Gymnasium 1.4, `envs/mujoco/*_v4.py` and `*_v5.py`; reference scores and
horizon: D4RL, `infos.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from offjax.envs.processes import cores
from offjax.errors import UserError
from offjax.types import EnvSpec

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
"""Gymnasium's model files."""

HORIZON = 1000
MARGINS = ("d4rl", "installed")
VERSIONS = ("v4", "v5")


@dataclasses.dataclass(frozen=True)
class Robot:
    """What distinguishes one robot from the others.

    `healthy` is (qpos [n, nq], qvel [n, nv]) → [n] bool, or None if episodes never
    end; `v5` are the fields that differ in version "v5".
    """

    id: str  # Gymnasium's name without the version
    xml: str  # model file
    observation_dim: int
    action_dim: int  # A; the box is [-1, 1]^A
    frame_skip: int  # simulator steps per step
    control_cost: float  # factor on Σa²
    reference: tuple[float, float]  # D4RL's returns of scores 0 and 100
    bonus: float = 1.0  # reward of being alive
    healthy: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    skipped: int = 1  # leading positions that are not observed
    velocity_clip: float = np.inf  # bound of observed velocities
    noise: float = 0.1  # half-width of the uniform noise on the first positions
    normal_velocity: bool = True  # first velocities are noise·N(0, 1), else uniform
    body: str | None = None  # whose place counts; None for the first position
    v5: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def version(self, version: str) -> Robot:
        """The robot of "v4" or "v5"."""
        return dataclasses.replace(self, **self.v5) if version == "v5" else self


def _hopper_healthy(qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    state = np.concatenate([qpos[:, 2:], qvel], axis=1)
    upright = (qpos[:, 1] > 0.7) & (np.abs(qpos[:, 2]) < 0.2)
    return upright & (np.abs(state) < 100).all(axis=1)


def _walker_healthy(qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    height = qpos[:, 1]
    return (height > 0.8) & (height < 2.0) & (np.abs(qpos[:, 2]) < 1.0)


def _ant_healthy(qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    finite = np.isfinite(qpos).all(axis=1) & np.isfinite(qvel).all(axis=1)
    return finite & (qpos[:, 2] >= 0.2) & (qpos[:, 2] <= 1.0)


ROBOTS: dict[str, Robot] = {
    "hopper": Robot(
        id="Hopper",
        xml="hopper.xml",
        observation_dim=11,
        action_dim=3,
        frame_skip=4,
        control_cost=1e-3,
        reference=(-20.272305, 3234.3),
        healthy=_hopper_healthy,
        velocity_clip=10.0,
        noise=5e-3,
        normal_velocity=False,
    ),
    "halfcheetah": Robot(
        id="HalfCheetah",
        xml="half_cheetah.xml",
        observation_dim=17,
        action_dim=6,
        frame_skip=5,
        control_cost=0.1,
        reference=(-280.178953, 12135.0),
        bonus=0.0,
    ),
    "walker2d": Robot(
        id="Walker2d",
        xml="walker2d.xml",
        observation_dim=17,
        action_dim=6,
        frame_skip=4,
        control_cost=1e-3,
        reference=(1.629008, 4592.3),
        healthy=_walker_healthy,
        velocity_clip=10.0,
        noise=5e-3,
        normal_velocity=False,
        v5={"xml": "walker2d_v5.xml"},
    ),
    "ant": Robot(
        id="Ant",
        xml="ant.xml",
        observation_dim=27,
        action_dim=8,
        frame_skip=5,
        control_cost=0.5,
        reference=(-325.6, 3879.7),
        healthy=_ant_healthy,
        skipped=2,
        body="torso",
        v5={"observation_dim": 105},
    ),
}
"""Name in dataset ids → robot."""

IDS = {f"{robot.id}-{version}" for robot in ROBOTS.values() for version in VERSIONS}
"""Gymnasium's ids of the robots."""


def spec(robot: str, version: str = "v4", margins: str = "d4rl") -> EnvSpec:
    """Where locomotion policies are evaluated, with D4RL's reference scores.

    `margins` are those of v4's contacts, see the module. UserError for an unknown
    robot, version or setting of the margins.
    """
    if robot not in ROBOTS:
        raise UserError(f"No robot {robot!r}: there are {', '.join(ROBOTS)}.")
    if version not in VERSIONS:
        raise UserError(
            f"{ROBOTS[robot].id} has no version {version!r}: choose v4, which is "
            "D4RL's, or v5."
        )
    check_margins(margins)
    body = ROBOTS[robot].version(version)
    return EnvSpec(
        id=f"{body.id}-{version}",
        observation_dim=body.observation_dim,
        action_low=(-1.0,) * body.action_dim,
        action_high=(1.0,) * body.action_dim,
        horizon=HORIZON,
        ref_min_score=body.reference[0],
        ref_max_score=body.reference[1],
        score_source="D4RL's random and expert returns",
        domain="locomotion",
        kwargs=() if margins == "d4rl" else (("margins", margins),),
    )


def check_margins(margins: str) -> None:
    """UserError unless `margins` is one of `MARGINS`."""
    if margins not in MARGINS:
        raise UserError(
            f"Unknown contact margins {margins!r}: choose 'd4rl', those of the "
            "simulator that D4RL used, or 'installed', those of the one at hand."
        )


def has_engine() -> bool:
    """Whether the installed MuJoCo has `mujoco.batch`."""
    try:
        return importlib.util.find_spec("mujoco.batch") is not None
    except ModuleNotFoundError:
        return False


def require_engine(what: str) -> None:
    """Raises UserError unless data of `what` can be collected here."""
    if not has_engine():
        raise UserError(
            f"Collecting {what} needs mujoco.batch, which is not installed. Run "
            "`pip install 'offjax[mujoco]'` (MuJoCo 3.17 or later)."
        )


def runs(spec: EnvSpec) -> bool:
    """Whether the engine steps this environment with these arguments."""
    known = spec.id in IDS and all(name == "margins" for name, _ in spec.kwargs)
    return known and has_engine()


@functools.cache
def adds_margins() -> bool:
    """Whether the installed MuJoCo adds two geoms' contact margins.

    Between a ball and a floor of margin 1, a gap of 1.5 is a contact only if it does.
    """
    import mujoco

    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><geom type="plane" size="9 9 1" margin="1"/>'
        '<body pos="0 0 2.5"><freejoint/><geom size="1" margin="1"/></body>'
        "</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return data.ncon > 0


def correct_margins(model: Any, id: str, margins: str = "d4rl") -> None:
    """Gives an MjModel, in place, the contact margins of the environment `id`.

    Only this module's environments of v4 have others than the installed ones.
    """
    check_margins(margins)
    if margins == "d4rl" and id in IDS and id.endswith("-v4") and adds_margins():
        model.geom_margin[:] *= 0.5


@contextmanager
def quiet() -> Iterator[None]:
    """Without advice about old models, which MuJoCo would also append to a file."""
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda _: None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        mujoco.set_mju_user_warning(before)


class MujocoBatch:
    """Episodes of one robot side by side; a `batched.BatchedEnv`."""

    def __init__(
        self, spec: EnvSpec, num_envs: int, num_threads: int | None = None
    ) -> None:
        """`runs(spec)` must hold. `num_threads` None takes one per core at hand."""
        import mujoco
        from mujoco.batch import Batch

        name, self._version = spec.id.rsplit("-", 1)
        robot = next(r for r in ROBOTS.values() if r.id == name)
        self._robot = robot.version(self._version)
        with quiet():
            model = mujoco.MjModel.from_xml_path(str(ASSETS / self._robot.xml))
        correct_margins(model, spec.id, dict(spec.kwargs).get("margins", "d4rl"))
        self.num_envs = num_envs
        self.observation_dim = spec.observation_dim
        # Contact forces are read from the whole MjData of each simulation.
        self._forces = self._robot.id == "Ant" and self._version == "v5"
        self._batch = Batch(
            model,
            nsim=num_envs,
            nthread=min(num_threads or cores(), num_envs),
            persistent=self._forces,
        )
        self._model = model
        self._data = mujoco.MjData(model)
        self._qpos = self._batch.bind("qpos")
        self._qvel = self._batch.bind("qvel")
        self._ctrl = self._batch.bind("ctrl")
        self._places = self._qpos[:, 0]
        if self._robot.body is not None:
            body = model.body(self._robot.body).id
            self._places = self._batch.bind("xpos")[:, body, 0]
        self._seconds = model.opt.timestep * self._robot.frame_skip

    def reset(self, indices: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Begins episodes in places [n]; what Gymnasium's `reset(seed)` observes."""
        robot, ids = self._robot, np.asarray(indices, np.int32)
        self._batch.reset(np.sort(ids), stage=0)  # it takes them ascending
        for place, seed in zip(ids, seeds, strict=True):
            rng, _ = gymnasium.utils.seeding.np_random(int(seed))
            noise = rng.uniform(-robot.noise, robot.noise, self._model.nq)
            self._qpos[place] = self._model.qpos0 + noise
            if robot.normal_velocity:
                velocity = robot.noise * rng.standard_normal(self._model.nv)
            else:
                velocity = rng.uniform(-robot.noise, robot.noise, self._model.nv)
            self._qvel[place] = velocity
        self._batch.forward(np.sort(ids))
        return self._observe(ids, self._contact_forces(ids, stepped=False))

    def step(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of places [n]: observations [n, O] f32, rewards, terminals [n]."""
        robot, ids = self._robot, np.asarray(indices, np.int32)
        before = self._places[ids].copy()
        self.advance(ids, actions)
        velocity = (self._places[ids] - before) / self._seconds
        healthy = np.ones(len(ids), bool)
        if robot.healthy is not None:
            healthy = robot.healthy(self._qpos[ids], self._qvel[ids])
        alive = robot.bonus * (healthy if self._version == "v5" else 1.0)
        # In the actions' own precision, as Gymnasium has it.
        costs = robot.control_cost * np.square(actions).sum(axis=1)
        forces = self._contact_forces(ids, stepped=True)
        if forces is not None:
            costs = costs + 5e-4 * np.array([np.square(f).sum() for f in forces])
        rewards = velocity + alive - costs
        return self._observe(ids, forces), rewards, ~healthy

    def advance(self, indices: np.ndarray, actions: np.ndarray) -> None:
        """The simulation's share of `step`: actions [n, A] held for its frames."""
        ids = np.asarray(indices, np.int32)
        self._ctrl[ids] = actions
        self._batch.step(np.sort(ids), nstep=self._robot.frame_skip)

    def states(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions [n, nq] and velocities [n, nv] of places [n], f64 copies."""
        return self._qpos[indices], self._qvel[indices]

    def close(self) -> None:
        """Nothing to release: the threads end with the object."""

    def _observe(self, ids: np.ndarray, forces: np.ndarray | None) -> np.ndarray:
        bound = self._robot.velocity_clip
        parts = [
            self._qpos[ids, self._robot.skipped :],
            np.clip(self._qvel[ids], -bound, bound),
        ]
        if forces is not None:
            parts.append(forces[:, 1:].reshape(len(ids), -1))
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _contact_forces(self, ids: np.ndarray, stepped: bool) -> np.ndarray | None:
        """External forces on all bodies, clipped, [n, bodies, 6]; Ant-v5 only.

        After a reset Gymnasium shows those of a simulator that computed none: zeros.
        """
        import mujoco

        if not self._forces:
            return None
        forces = np.zeros((len(ids), self._model.nbody, 6))
        if stepped:
            for row, place in enumerate(ids):
                data = self._batch.get_data(int(place), self._data)
                mujoco.mj_rnePostConstraint(self._model, data)
                forces[row] = data.cfrc_ext
        return np.clip(forces, -1.0, 1.0)
