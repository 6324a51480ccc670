"""CALVIN's own simulator, where the user has it, as places for instructions.

`calvin_env` (github.com/mees/calvin_env) is no package of the index: clone it, install
it with its requirements, and its table, robot and test of the 34 tasks are used as
they are. Chains and starts are those of `offjax.evaluation.chains`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offjax.envs.calvin_table import HORIZON, STATE, Frames, State, initial_vectors
from offjax.envs.processes import Workers
from offjax.errors import UserError

SCENE = "calvin_scene_D"
"""The environment that CALVIN's benchmark tests in."""


def is_available() -> str | None:
    """None if CALVIN's simulator can be used, else why not and what to do."""
    try:
        import calvin_env
        import hydra  # noqa: F401
        import pybullet  # noqa: F401
    except ImportError as error:
        return (
            f"CALVIN's simulator cannot be imported ({error}); clone "
            "github.com/mees/calvin_env with its submodules and install it into this "
            "environment with `pip install -e calvin_env`"
        )
    if not _configs(calvin_env).is_dir():
        return (
            "CALVIN's simulator was installed without its configurations: there is no "
            f"{_configs(calvin_env)}; install the clone itself, with `pip install -e "
            "calvin_env`"
        )
    return None


class Calvin:
    """Places in CALVIN's simulator, each a simulator of its own."""

    def __init__(
        self,
        num_envs: int,
        processes: int = 0,
        dataset: str = "",
        keys: Sequence[str] = STATE,
        encode: Callable[[Frames], np.ndarray] | None = None,
        simulators: type[Simulators] | None = None,
    ) -> None:
        """Starts the simulators.

        Args:
          num_envs: places.
          processes: that simulate them; 0 for none but the caller's.
          dataset: folder of a split whose recorded configuration is used, cameras
            included; by default the simulator's own of environment D, without
            cameras.
          keys: of a frame, that are observed (as for `datasets.calvin.read`).
          encode: makes the observations of frames, as there.
          simulators: by default `Simulators`; a subclass may stand in for them.

        Raises:
          UserError: the simulator is not installed.
        """
        kind = simulators or Simulators
        problem = kind.missing()
        if problem is not None:
            raise UserError(f"CALVIN cannot be simulated: {problem}.")
        self.num_envs, self._keys, self._encode = num_envs, tuple(keys), encode
        name = f"{kind.__module__}:{kind.__qualname__}"
        arguments = [dataset, ",".join(keys)]
        self._workers = Workers(name, arguments, num_envs, processes)
        self._done = np.zeros(num_envs, bool)
        first = self._observe(self._workers.call("state", np.array([0]), [None]))
        self.observation_dim = first.shape[1]

    def begin(
        self, indices: np.ndarray, starts: Sequence[State | tuple[np.ndarray, ...]]
    ) -> np.ndarray:
        """Puts places [n] into symbolic states, or (robot, scene) vectors."""
        vectors = [initial_vectors(s) if isinstance(s, dict) else s for s in starts]
        return self._observe(self._workers.call("begin", indices, vectors))

    def step(self, indices: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """One step with relative actions [n, 7]; the gripper opens above 0."""
        actions = np.array(actions, np.float64)
        actions[:, 6] = np.where(actions[:, 6] > 0, 1, -1)
        found = self._workers.call("step", indices, list(actions))
        self._done[indices] = [frame.pop("done") for frame in found]
        return self._observe(found)

    def instruct(self, indices: np.ndarray, names: Sequence[str]) -> None:
        """Gives tasks [n] in the places' present states."""
        self._workers.call("instruct", indices, list(names))
        self._done[indices] = False

    def succeeded(self, indices: np.ndarray) -> np.ndarray:
        """Whether CALVIN's test of the task held after the last step, [n] bool."""
        return self._done[indices]

    def limit(self, name: str) -> int:
        """Steps in which a task is to be done: 360."""
        del name
        return HORIZON

    def close(self) -> None:
        """Ends the simulators."""
        self._workers.close()
        if self._workers.local is not None:
            self._workers.local.close()

    def _observe(self, frames: list[dict[str, Any]]) -> np.ndarray:
        stacked = {
            key: np.stack([frame[key] for frame in frames]) for key in self._keys
        }
        if self._encode is not None:
            return np.asarray(self._encode(stacked), np.float32)
        flat = [stacked[key].reshape(len(frames), -1) for key in self._keys]
        return np.concatenate(flat, axis=1, dtype=np.float32)


class Simulators:
    """Some of CALVIN's simulators in this process, with its test of the tasks."""

    def __init__(self, dataset: str, keys: str, places: int) -> None:
        """Arguments as of `Calvin`; the keys are joined by commas."""
        self._keys = keys.split(",")
        self._envs = [self.build(dataset) for _ in range(places)]
        self._tasks = self.tasks()
        self._given: list[tuple[str, Any]] = [("", None)] * places

    @classmethod
    def missing(cls) -> str | None:
        """Why there can be none, and what to do; None if there can."""
        return is_available()

    def build(self, dataset: str) -> Any:
        """One simulator, without window."""
        import calvin_env
        import hydra
        from omegaconf import OmegaConf

        if dataset:
            path = Path(dataset).expanduser() / ".hydra" / "merged_config.yaml"
            if not path.is_file():
                raise UserError(
                    f"There is no {path}, from which CALVIN's simulator is configured: "
                    "name the folder of a split, such as task_D_D/validation."
                )
            config: Any = OmegaConf.load(path)
        else:
            folder = _configs(calvin_env)
            robot = OmegaConf.merge(
                OmegaConf.load(folder / "robot" / "panda.yaml"),
                OmegaConf.load(folder / "robot" / "panda_longer_finger.yaml"),
            )
            config = OmegaConf.create(
                {
                    "data_path": str(folder.parent / "data"),
                    "use_vr": False,
                    "cameras": {},
                    "robot": robot,
                    "scene": OmegaConf.load(folder / "scene" / f"{SCENE}.yaml"),
                    "env": OmegaConf.load(folder / "env" / "play_table_env.yaml"),
                }
            )
        settings = {"show_gui": False, "use_vr": False, "use_scene_info": True}
        with contextlib.redirect_stdout(io.StringIO()):
            return hydra.utils.instantiate(config.env, **settings, use_egl=False)

    def tasks(self) -> Any:
        """CALVIN's test of the tasks."""
        import calvin_env
        import hydra
        from omegaconf import OmegaConf

        path = _configs(calvin_env) / "tasks" / "new_playtable_tasks.yaml"
        return hydra.utils.instantiate(OmegaConf.load(path))

    def state(self, place: int, value: None = None) -> dict[str, Any]:
        """What is observed in a place at present."""
        del value
        return self._frame(self._envs[place].get_obs())

    def begin(self, place: int, start: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
        """Puts a place into a start; what is observed."""
        robot, scene = start
        return self._frame(self._envs[place].reset(robot_obs=robot, scene_obs=scene))

    def instruct(self, place: int, task: str) -> None:
        """Remembers the task and the state in which it was given."""
        self._given[place] = (task, self._envs[place].get_info())

    def step(self, place: int, action: np.ndarray) -> dict[str, Any]:
        """One step; what is observed, and whether the task is done."""
        observed, _, _, info = self._envs[place].step(action)
        task, start = self._given[place]
        done = bool(task) and bool(
            self._tasks.get_task_info_for_set(start, info, {task})
        )
        return {**self._frame(observed), "done": done}

    def close(self) -> None:
        """Disconnects from the physics."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._envs.clear()

    def _frame(self, observed: Mapping[str, Any]) -> dict[str, Any]:
        whole = {**observed, **observed["rgb_obs"], **observed["depth_obs"]}
        absent = [key for key in self._keys if key not in whole]
        if absent:
            raise UserError(
                f"CALVIN's simulator does not observe {absent[0]!r}; cameras are those "
                "of the configuration that is recorded in a dataset: pass `dataset`."
            )
        return {key: np.asarray(whole[key]) for key in self._keys}


def _configs(package: Any) -> Path:
    return Path(package.__file__).parents[1] / "conf"
