"""Play in the scenes: OGBench's scripted oracles under instructions.

An episode is one instruction after another without a reset. Every span in which one
was carried out is annotated: from a few steps before it began to shortly after it was
first done; what the oracle does afterwards belongs to no instruction. Some of the
oracles' segments are cut there too, so that the next instruction begins where it will
in a chain of instructions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from offjax.envs import scene_instructions as language
from offjax.envs.scene import (
    OPEN_DRAWER,
    OPEN_WINDOW,
    Scene,
    SceneState,
    Simulator,
    Snapshot,
    decode,
)
from offjax.envs.scene_instructions import Instruction

NOISE = 0.1
"""Standard deviation of the noise on the oracles' plans, in units of actions."""
BEFORE, AFTER = 10, 3
"""Steps that an annotation reaches back before its segment, and past success."""
LET_GO, RAISE = 8, 3
"""Steps less one for opening a gripper that holds something; the last ones go up."""
CLOSED = 0.1
"""Gripper opening (0 open, 1 closed) above which it may hold something."""
CUT_SHARE = 0.5
"""Share of segments that end soon after success, not with the oracle's retreat."""
COMPOUND_SHARE = 0.25
"""Share of compound instructions among those given."""


class Oracle:
    """Carries out instructions in one place of a simulator.

    It plans a path once and follows it by the clock; when the path ends without
    success, it plans anew. What it still holds when it is told something, it lets go
    of first, lest it drag it along.
    """

    def __init__(
        self, simulator: Simulator, place: int = 0, seed: int = 0, noise: float = NOISE
    ) -> None:
        """Begins idle; its randomness is `seed`'s alone."""
        self.simulator, self.place = simulator, place
        self.rng = np.random.default_rng(seed)
        self._legacy = np.random.RandomState(seed).get_state(legacy=False)
        self._oracles = _oracles(simulator, noise)
        self._waiting: list[Instruction] = []
        self._release = 0  # steps left for letting go

    def begin(self, instruction: Instruction) -> None:
        """Starts on an instruction in the present state."""
        single = language.instructions(self.simulator.scene.name)
        self._waiting = [single[p] for p in instruction.parts] or [instruction]
        self._next()

    @property
    def done(self) -> bool:
        """Whether the path has come to its end."""
        return self._release == 0 and self._oracle.done

    def action(self, observation: np.ndarray) -> np.ndarray:
        """The next action, [5], at the place's present observation."""
        if self._release == 0:
            scene = self.simulator.scene
            state = decode(scene, observation)
            done = language.succeeded(scene, self._part, self._start, state)
            if self.done and not done:
                self._plan()
            elif self.done and self._waiting:  # the path's end settles what was done
                self._next()
        if self._release > 0:
            self._release -= 1
            if self._release > 0:
                return np.array([0, 0, self._release <= RAISE, 0, -1], np.float32)
            self._plan()
        info = self.simulator.info(self.place)
        return np.asarray(self._oracle.select_action(None, info), np.float32)

    def _next(self) -> None:
        self._part = self._waiting.pop(0)
        opening = self.simulator.info(self.place)["proprio/gripper_opening"][0]
        self._release = LET_GO if opening > CLOSED else 0
        if self._release == 0:
            self._plan()

    def _plan(self) -> None:
        simulator, part = self.simulator, self._part
        simulator.use(self.place)
        observation = simulator.env.compute_observation()
        self._start = decode(simulator.scene, observation)
        _set_target(simulator, part, self._start, self.rng)
        self._oracle = self._oracles["cube" if part.is_cube else part.target]
        with self._global_random():
            self._oracle.reset(observation, simulator.env.get_reset_info())

    @contextmanager
    def _global_random(self) -> Iterator[None]:
        """OGBench's oracles draw from NumPy's global generator: lend them ours."""
        others = np.random.get_state(legacy=False)
        np.random.set_state(self._legacy)
        try:
            yield
        finally:
            self._legacy = np.random.get_state(legacy=False)
            np.random.set_state(others)


class Span(NamedTuple):
    """Rows start to end − 1 of an episode carry out an instruction."""

    start: int
    end: int
    name: str


class Episode(NamedTuple):
    """Play without a reset."""

    observations: np.ndarray  # [T + 1, O] f32
    actions: np.ndarray  # [T, 5] f32
    spans: list[Span]
    states: list[Snapshot]  # at each observation

    @property
    def snapshots(self) -> list[Snapshot]:
        """The states at the start of each span."""
        return [self.states[span.start] for span in self.spans]


class _Player:
    """An episode under way."""

    def __init__(self, simulator: Simulator, seed: int, length: int) -> None:
        self.simulator, self.length = simulator, length
        self.rng = np.random.default_rng((seed, 1))
        self.oracle = Oracle(simulator, seed=seed)
        self.observations = [simulator.reset(0, seed)]
        self.snapshots = [simulator.snapshot(0)]
        self.actions: list[np.ndarray] = []
        self.spans: list[Span] = []
        self.annotated = 0  # rows before this one belong to an instruction

    @property
    def time(self) -> int:
        return len(self.actions)

    @property
    def over(self) -> bool:
        return self.time >= self.length

    @property
    def state(self) -> SceneState:
        return decode(self.simulator.scene, self.observations[-1])

    def perform(self, instruction: Instruction) -> Span | None:
        """One instruction that has no parts; its span if it succeeded."""
        scene, start, begin = self.simulator.scene, self.state, self.time
        self.oracle.begin(instruction)
        limit, first = begin + instruction.limit, 0
        linger = self._linger()
        while not self.over and self.time < limit:
            if first and (self.time - first >= linger or self.oracle.done):
                break
            if not first and self.oracle.done:  # it will try again
                start, begin = self.state, self.time
            action = self.oracle.action(self.observations[-1])
            self.actions.append(action)
            self.observations.append(self.simulator.step(0, action))
            self.snapshots.append(self.simulator.snapshot(0))
            if not first and language.succeeded(scene, instruction, start, self.state):
                first = self.time
        if not first:
            return None
        opening = max(begin - BEFORE, self.annotated)
        span = Span(opening, min(first + AFTER, self.time), instruction.name)
        self.spans.append(span)
        self.annotated = span.end
        return span

    def _linger(self) -> int:
        """Steps to go on for after success."""
        cut = self.rng.random() < CUT_SHARE
        return int(AFTER + self.rng.integers(8)) if cut else self.length

    def perform_all(self, instruction: Instruction) -> None:
        """A compound instruction; the whole is annotated too if it succeeded."""
        scene, start, begin = self.simulator.scene, self.state, self.time
        opening = max(begin - BEFORE, self.annotated)
        single = language.instructions(scene.name)
        done: list[Span] = []
        for part in instruction.parts:
            span = self.perform(single[part])
            if span is None or (done and span.start > done[-1].end + 2 * BEFORE):
                return
            done.append(span)
        end = done[-1].end
        last = decode(scene, self.observations[end])
        if language.succeeded(scene, instruction, start, last):
            self.spans.append(Span(opening, end, instruction.name))


def play(simulator: Simulator, seed: int, length: int) -> Episode:
    """One episode of play, the same for the same arguments.

    Args:
      simulator: its first place is used.
      seed: of the start, the instructions and the oracles.
      length: T, steps.
    """
    player = _Player(simulator, seed, length)
    last = ""
    while not player.over:
        instruction = _draw(simulator.scene, player.state, player.rng, last)
        if instruction is None:  # the cubes are out of reach
            break
        last = instruction.target
        if instruction.parts:
            player.perform_all(instruction)
        else:
            player.perform(instruction)
    return Episode(
        np.stack(player.observations),
        np.stack(player.actions),
        player.spans,
        player.snapshots,
    )


def _draw(
    scene: Scene, state: SceneState, rng: np.random.Generator, last: str
) -> Instruction | None:
    """A feasible instruction that does not handle `last` again; None if none is.

    Cubes are the hardest to learn and are asked for three times as often as the
    rest, the buttons half as often.
    """

    def among(compound: bool) -> list[Instruction]:
        known = language.instructions(scene.name, compound).values()
        feasible = [i for i in known if language.feasible(scene, i, state)]
        return [i for i in feasible if i.target != last] or feasible

    single, compound = among(False), among(True)
    if compound and rng.random() < COMPOUND_SHARE:
        return compound[rng.integers(len(compound))]
    if not single:
        return None
    weights = np.array([WEIGHTS.get(i.kind, 1.0) for i in single])
    return single[rng.choice(len(single), p=weights / weights.sum())]


WEIGHTS = {
    **dict.fromkeys(("left", "right", "put", "stack"), 3.0),
    **dict.fromkeys(("lock", "unlock"), 0.5),
}
"""Kind → how often it is asked for, 1 for any other."""


def _oracles(simulator: Simulator, noise: float) -> dict[str, Any]:
    """OGBench's planning oracles by what they handle."""
    from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
    from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
    from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

    env = simulator.env
    made: dict[str, Any] = {"cube": CubePlanOracle(env=env, noise=noise)}
    if simulator.scene.furniture:
        made["drawer"] = DrawerPlanOracle(env=env, noise=noise)
        made["window"] = WindowPlanOracle(env=env, noise=noise)
        button = ButtonPlanOracle(env=env, noise=noise)
        made["drawer lock"] = made["window lock"] = button
    return made


def _set_target(
    simulator: Simulator,
    instruction: Instruction,
    state: SceneState,
    rng: np.random.Generator,
) -> None:
    """Tells the environment, and so its oracles, what is to be reached."""
    import mujoco

    env, target = simulator.env, instruction.target
    if target == "drawer":
        env._target_task = "drawer"
        env._target_drawer_pos = -OPEN_DRAWER * (instruction.kind == "open")
        site = env.model.site("drawer_handle_center_target")
        site.pos[1] = env._target_drawer_pos
    elif target == "window":
        env._target_task = "window"
        env._target_window_pos = OPEN_WINDOW * (instruction.kind == "open")
        env.model.site("window_handle_center_target").pos[0] = env._target_window_pos
    elif instruction.is_cube:
        env._target_task, env._target_block = "cube", instruction.cube
        mark = env._cube_target_mocap_ids[instruction.cube]
        position = _cube_target(simulator.scene, instruction, state, rng)
        env.data.mocap_pos[mark] = position
        quaternion = env.data.joint(f"object_joint_{instruction.cube}").qpos[3:]
        env.data.mocap_quat[mark] = quaternion
    else:
        env._target_task = "button"
        env._target_button = int(target == "window lock")
        env._target_button_states[env._target_button] = instruction.kind == "unlock"
    mujoco.mj_kinematics(env.model, env.data)


def _cube_target(
    scene: Scene,
    instruction: Instruction,
    state: SceneState,
    rng: np.random.Generator,
) -> np.ndarray:
    """Where a cube is to be put, [3]."""
    if instruction.kind == "put":
        x, y = rng.uniform(-0.005, 0.005, 2)
        return np.array([0.33 + x, state.drawer - 0.4 + y, 0.066])
    if instruction.kind == "stack":
        return state.cubes[instruction.onto] + (0, 0, language.CUBE)
    cube = state.cubes[instruction.cube]
    others = np.delete(state.cubes, instruction.cube, axis=0)
    side = 1 if instruction.kind == "left" else -1
    room = scene.high[1] - cube[1] if side > 0 else cube[1] - scene.low[1]
    for attempt in range(50):
        spread = 0.02 + 0.003 * attempt  # further off where others are in the way
        x = np.clip(cube[0] + rng.uniform(-spread, spread), scene.low[0], scene.high[0])
        y = cube[1] + side * rng.uniform(
            language.ROOM, max(language.ROOM, min(0.11, room))
        )
        if (np.hypot(*(others[:, :2] - (x, y)).T) > 0.06).all():
            break
    return np.array([x, y, 0.02])
