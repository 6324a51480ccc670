"""Table-top scenes of OGBench that are commanded in language.

A robot arm with a gripper, and in `scene` a drawer, a window, a button that locks
each of them, and a cube; in `cube-double` and `cube-triple` colored cubes. What the
instructions speak of is read off the observation, so that success, feasibility and
chains are plain functions of arrays (`scene_instructions`). OGBench itself (extra
`ogbench`) is imported where a scene is simulated.

Directions are those of the arm, which looks along +x: left is +y.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import numpy as np

from offjax.errors import UserError
from offjax.types import Camera, EnvSpec

CENTER = np.array([0.425, 0.0, 0.0])
"""Positions (m) are observed as (position − CENTER) · 10."""
OPEN_DRAWER, OPEN_WINDOW = 0.16, 0.2  # full travel, m
PROPRIOCEPTION = 19  # joints, joint velocities, effector, gripper
PER_CUBE = 9  # position, quaternion, cosine and sine of the yaw


@dataclasses.dataclass(frozen=True)
class Scene:
    """What stands on the table."""

    name: str  # key of `SCENES`
    cubes: tuple[str, ...]  # colors; "" where there is only one
    furniture: bool  # whether there are drawer, window and buttons
    low: tuple[float, float]  # least x and y (m) that cubes are put at
    high: tuple[float, float]  # largest x and y
    env: tuple[str, str]  # OGBench's class and its variant

    @property
    def observation_dim(self) -> int:
        """Length of the observation vector."""
        return PROPRIOCEPTION + PER_CUBE * len(self.cubes) + 12 * self.furniture

    @property
    def objects(self) -> tuple[int, ...]:
        """First column, number and width of several cubes; () where there is one."""
        count = len(self.cubes)
        return (PROPRIOCEPTION, count, PER_CUBE) if count > 1 else ()


def _cubes(name: str, *colors: str) -> Scene:
    variant = name.removeprefix("cube-")
    return Scene(name, colors, False, (0.3, -0.3), (0.55, 0.3), ("cube", variant))


SCENES = {
    "scene": Scene(
        "scene", ("",), True, (0.3, -0.07), (0.45, 0.18), ("scene", "scene")
    ),
    "cube-double": _cubes("cube-double", "red", "blue"),
    "cube-triple": _cubes("cube-triple", "red", "blue", "orange"),
}

ACTION_DIM = 5
"""Relative x, y, z, yaw and gripper opening (+1 closes), each in [-1, 1]."""
HORIZON = 150
"""Steps in which one instruction is to be carried out."""


def get(name: str) -> Scene:
    """The scene of that name; UserError if there is none."""
    if name not in SCENES:
        raise UserError(f"There is no scene {name!r}; scenes are {', '.join(SCENES)}.")
    return SCENES[name]


def spec(name: str, cameras: Sequence[Camera] = ()) -> EnvSpec:
    """The evaluation of a scene's datasets: chains of instructions.

    Policies see the state, or what `cameras` show of it (`scene_drawing.CAMERAS`).
    """
    scene = get(name)
    pixels = sum(camera.height * camera.width * 3 for camera in cameras)
    return EnvSpec(
        id=f"offjax/{name}",
        observation_dim=pixels or scene.observation_dim,
        action_low=(-1.0,) * ACTION_DIM,
        action_high=(1.0,) * ACTION_DIM,
        horizon=HORIZON,
        domain="scene",
        kwargs=(("scene", name),),
        cameras=tuple(cameras),
    )


class SceneState(NamedTuple):
    """What instructions speak of; any leading axes."""

    cubes: np.ndarray  # [..., C, 3] m
    unlocked: np.ndarray  # [..., 2] bool: drawer, window
    drawer: np.ndarray  # [...] opening in m, 0 closed to 0.16
    window: np.ndarray  # [...] opening in m, 0 closed to 0.2


def decode(scene: Scene, observations: chex.Array) -> SceneState:
    """Reads the state off observations [..., O]."""
    observations = np.asarray(observations, np.float64)
    lead = observations.shape[:-1]
    end = PROPRIOCEPTION + PER_CUBE * len(scene.cubes)
    cubes = observations[..., PROPRIOCEPTION:end].reshape(*lead, -1, PER_CUBE)
    positions = cubes[..., :3] / 10 + CENTER
    if not scene.furniture:
        nothing = np.zeros(lead)
        return SceneState(positions, np.zeros((*lead, 2), bool), nothing, nothing)
    rest = observations[..., end:]
    return SceneState(
        positions,
        rest[..., [1, 5]] > 0.5,
        -rest[..., 8] / 18,
        rest[..., 10] / 15,
    )


def in_drawer(cubes: np.ndarray, drawer: np.ndarray) -> np.ndarray:
    """Whether positions [..., 3] lie in a drawer opened by `drawer` [...] metres."""
    handle = drawer - 0.24
    x, y, z = np.moveaxis(cubes, -1, 0)
    inside = (x >= 0.21) & (x <= 0.45) & (z >= 0) & (z <= 0.15)
    return inside & (handle - 0.27 <= y) & (y <= handle - 0.07)


class Snapshot(NamedTuple):
    """All that determines how a scene goes on."""

    qpos: np.ndarray  # [nq]
    qvel: np.ndarray  # [nv]
    button_states: np.ndarray  # [2] int; empty without furniture


Start = int | Snapshot
"""A seed, or a recorded state."""


def is_available() -> str | None:
    """None if scenes can be simulated, else why not and what to do."""
    try:
        import ogbench.manipspace  # noqa: F401
    except ImportError as error:
        return (
            f"OGBench, which simulates the scenes, cannot be imported ({error}); "
            "install it with `pip install 'offjax[ogbench]'`"
        )
    return None


def require_simulator(name: str) -> None:
    """Raises UserError, with the remedy, unless the scene can be simulated here."""
    problem = is_available()
    if problem is not None:
        raise UserError(f"Scene {name!r} cannot be simulated: {problem}.")


class Simulator:
    """One of OGBench's scenes, with several places that share its model.

    Each place has its own physics; OGBench's environment, `env`, is switched to a
    place before it is used.
    """

    def __init__(self, name: str, places: int = 1) -> None:
        self.scene = get(name)
        require_simulator(name)
        import mujoco

        self.env = _build(self.scene)
        self.env.reset(seed=0)
        self._damping = self._lock_dampings() if self.scene.furniture else None
        extra = [mujoco.MjData(self.env.model) for _ in range(places - 1)]
        self._data = [self.env.data, *extra]
        self._buttons = [np.zeros(2 * self.scene.furniture, int) for _ in self._data]
        self._infos: list[dict] = [{} for _ in self._data]

    def use(self, place: int) -> None:
        """Switches `env` to a place."""
        self.env._data = self._data[place]
        if self._damping is not None:
            self.env._cur_button_states = self._buttons[place]
            # The locks act through the model's damping, which all places share.
            self.env.model.dof_damping[:] = self._damping[tuple(self._buttons[place])]

    def info(self, place: int) -> dict[str, Any]:
        """OGBench's description of the state after a place's last step."""
        return self._infos[place]

    def begin(self, place: int, start: Start) -> np.ndarray:
        """`restore` or `reset`, by the kind of start."""
        if isinstance(start, Snapshot):
            return self.restore(place, start)
        return self.reset(place, int(start))

    def reset(self, place: int, seed: int) -> np.ndarray:
        """Begins anew; the observation, [O] f32, depends on the seed alone."""
        self.use(place)
        self.env.reset(seed=seed)
        if self.scene.furniture:
            self._buttons[place] = self.env._cur_button_states
            drawer, window = np.random.default_rng(seed).integers(2, size=2)
            self.env.data.joint("drawer_slide").qpos[0] = -OPEN_DRAWER * drawer
            self.env.data.joint("window_slide").qpos[0] = OPEN_WINDOW * window
        return self.restore(place, self.snapshot(place))

    def restore(self, place: int, snapshot: Snapshot) -> np.ndarray:
        """Puts a place into a recorded state; the observation, [O] f32."""
        import mujoco

        self.use(place)
        mujoco.mj_resetData(self.env.model, self.env.data)
        if self.scene.furniture:
            self.env.set_state(*snapshot)
            self._buttons[place] = self.env._cur_button_states
        else:
            self.env.set_state(snapshot.qpos, snapshot.qvel)
        self.env.pre_step()
        self._infos[place] = self.env.get_reset_info()
        return self.env.compute_observation().astype(np.float32)

    def snapshot(self, place: int) -> Snapshot:
        """The present state of a place."""
        data = self._data[place]
        return Snapshot(data.qpos.copy(), data.qvel.copy(), self._buttons[place].copy())

    def step(self, place: int, action: np.ndarray) -> np.ndarray:
        """One step with an action [5] in [-1, 1]; the observation, [O] f32."""
        self.use(place)
        observation, *_, info = self.env.step(np.clip(action, -1.0, 1.0))
        if self.scene.furniture:
            self._buttons[place] = self.env._cur_button_states
        self._infos[place] = info
        return observation.astype(np.float32)

    def _lock_dampings(self) -> dict[tuple[int, int], np.ndarray]:
        """Damping of all joints for each state of the two buttons."""
        found = {}
        for states in np.ndindex(2, 2):
            self.env._cur_button_states = np.array(states)
            self.env._apply_button_states()
            found[states] = self.env.model.dof_damping.copy()
        return found


def _build(scene: Scene) -> Any:
    os.environ.setdefault("MUJOCO_GL", "disable")  # nothing is drawn here
    from ogbench.manipspace.envs.cube_env import CubeEnv
    from ogbench.manipspace.envs.scene_env import SceneEnv

    kind, variant = scene.env
    make = SceneEnv if kind == "scene" else CubeEnv
    # Collecting is the mode in which targets can be set while an episode runs.
    return make(env_type=variant, mode="data_collection", terminate_at_goal=False)
