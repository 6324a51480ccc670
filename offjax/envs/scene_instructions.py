"""Instructions of the scenes: when they can be given, and when they are done.

An instruction is done by what changed between the state in which it was given and
the present one, whoever changed it. A compound one asks for several changes, all of
which must hold at the end.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from offjax.envs import scene_wordings
from offjax.envs.scene import (
    HORIZON,
    OPEN_DRAWER,
    OPEN_WINDOW,
    Scene,
    SceneState,
    get,
    in_drawer,
)
from offjax.errors import UserError

MOVE = 0.05  # m that "left" and "right" ask for at least
ROOM = 0.07  # m there must be for it
STEP = 0.085  # m that a cube is expected to be moved
EDGE = 0.04  # m short of its end at which drawer and window count as there
CUBE = 0.04  # m, edge of a cube
REACH = (0.19, 0.36)  # m on either side of (.425, 0) that the gripper gets to


@dataclasses.dataclass(frozen=True)
class Instruction:
    """Something that can be asked for.

    Its kind is "open", "close", "lock", "unlock", "put", "left", "right", "stack", or
    "all" for a compound one; its target, what is handled, "drawer", "window", "drawer
    lock", "window lock" or a cube.
    """

    name: str  # such as "stack_red_on_blue"; parts are joined by "+"
    kind: str
    target: str
    cube: int = -1  # its index
    onto: int = -1  # index of the cube that it is put on
    parts: tuple[str, ...] = ()  # names of what a compound one consists of, in order
    wordings: tuple[str, ...] = ()  # sentences to train with
    held_out: tuple[str, ...] = ()  # sentences to test with

    @property
    def limit(self) -> int:
        """Steps in which it is to be done."""
        return HORIZON if not self.parts else 50 + 100 * len(self.parts)

    @property
    def is_cube(self) -> bool:
        """Whether a cube has to be grasped for it."""
        return self.cube >= 0


@functools.lru_cache
def instructions(name: str, compound: bool = False) -> dict[str, Instruction]:
    """The instructions of a scene by name: single ones, or compound ones."""
    scene = get(name)
    single = {i.name: i for i in _single(scene)}
    if not compound:
        return single
    return {i.name: i for i in _compound(scene, single)}


def all_instructions(name: str) -> dict[str, Instruction]:
    """Single instructions of a scene, then compound ones."""
    return {**instructions(name), **instructions(name, compound=True)}


def succeeded(
    scene: Scene, instruction: Instruction, start: SceneState, now: SceneState
) -> np.ndarray:
    """Whether the instruction, given in `start`, is done in `now`; any lead axes."""
    if instruction.parts:
        single = instructions(scene.name)
        done = [succeeded(scene, single[p], start, now) for p in instruction.parts]
        return np.logical_and.reduce(done)
    kind, target = instruction.kind, instruction.target
    if kind in ("open", "close"):
        opening = now.drawer if target == "drawer" else now.window
        end = OPEN_DRAWER if target == "drawer" else OPEN_WINDOW
        return opening >= end - EDGE if kind == "open" else opening <= EDGE
    if kind in ("lock", "unlock"):
        which = int(target == "window lock")
        return now.unlocked[..., which] == (kind == "unlock")
    cube, before = now.cubes[..., instruction.cube, :], start.cubes
    inside = in_drawer(cube, now.drawer) if scene.furniture else np.bool_(False)
    if kind == "put":
        return inside & (cube[..., 2] < 0.08)  # at rest it lies at .066
    if kind == "stack":
        offset = cube - now.cubes[..., instruction.onto, :]
        level = np.abs(offset[..., 2] - CUBE) < 0.012
        return level & (np.linalg.norm(offset[..., :2], axis=-1) < 0.03)
    moved = cube[..., 1] - before[..., instruction.cube, 1]
    moved = moved if kind == "left" else -moved
    return (moved >= MOVE) & (cube[..., 2] < 0.03) & ~inside


def feasible(scene: Scene, instruction: Instruction, state: SceneState) -> bool:
    """Whether the instruction can be given in one state, and is not done already."""
    if instruction.parts:
        return expected(scene, instruction, state) is not None
    kind, target = instruction.kind, instruction.target
    if kind in ("open", "close"):
        which = int(target == "window")
        opening = (state.drawer, state.window)[which]
        shut = opening < (OPEN_DRAWER, OPEN_WINDOW)[which] / 2
        return bool(state.unlocked[which] and shut == (kind == "open"))
    if kind in ("lock", "unlock"):
        return bool(state.unlocked[int(target == "window lock")] == (kind == "lock"))
    if not _is_clear(scene, state, instruction.cube):
        return False
    if kind == "put":
        return bool(state.drawer > OPEN_DRAWER - EDGE)
    if kind == "stack":
        lying = _is_clear(scene, state, instruction.onto)
        return lying and not bool(succeeded(scene, instruction, state, state))
    y = state.cubes[instruction.cube, 1]
    room = scene.high[1] - y if kind == "left" else y - scene.low[1]
    return bool(room >= ROOM)


def expected(
    scene: Scene, instruction: Instruction, state: SceneState
) -> SceneState | None:
    """The state after the instruction; None if it is not feasible in `state`."""
    if instruction.parts:
        single = instructions(scene.name)
        after: SceneState | None = state
        for part in instruction.parts:
            after = None if after is None else expected(scene, single[part], after)
        return after
    if not feasible(scene, instruction, state):
        return None
    kind, target = instruction.kind, instruction.target
    if target == "drawer":
        drawer = np.asarray(OPEN_DRAWER * (kind == "open"))
        cubes = state.cubes.copy()
        cubes[in_drawer(cubes, state.drawer), 1] += drawer - state.drawer
        return state._replace(drawer=drawer, cubes=cubes)
    if target == "window":
        return state._replace(window=np.asarray(OPEN_WINDOW * (kind == "open")))
    if kind in ("lock", "unlock"):
        unlocked = state.unlocked.copy()
        unlocked[int(target == "window lock")] = kind == "unlock"
        return state._replace(unlocked=unlocked)
    cubes = state.cubes.copy()
    if kind == "put":
        cubes[instruction.cube] = (0.33, state.drawer - 0.4, 0.066)
    elif kind == "stack":
        cubes[instruction.cube] = cubes[instruction.onto] + (0, 0, CUBE)
    else:
        cubes[instruction.cube, 1] += STEP if kind == "left" else -STEP
        cubes[instruction.cube, 2] = CUBE / 2
    return state._replace(cubes=cubes)


def sample_chain(
    scene: Scene, state: SceneState, rng: np.random.Generator, length: int = 5
) -> tuple[str, ...]:
    """Names of `length` different instructions that can follow from `state`.

    As CALVIN draws its chains: all at random, again until each is feasible after
    those before it. No two in a row handle the same thing.

    Raises:
      UserError: no such chain is found.
    """
    known = list(instructions(scene.name).values())
    if length > len(known):
        raise UserError(
            f"A chain of {length} different instructions was asked for, but scene "
            f"{scene.name!r} has {len(known)}."
        )
    for _ in range(100_000):
        order = rng.permutation(len(known))[:length]
        chain = [known[i] for i in order]
        if _can_follow(scene, chain, state):
            return tuple(i.name for i in chain)
    raise UserError(
        f"No chain of {length} instructions was found in scene {scene.name!r}; ask "
        "for a shorter one."
    )


def _can_follow(scene: Scene, chain: Sequence[Instruction], state: SceneState) -> bool:
    last = ""
    for instruction in chain:
        after = expected(scene, instruction, state)
        if instruction.target == last or after is None:
            return False
        last, state = instruction.target, after
    return True


def _is_clear(scene: Scene, state: SceneState, cube: int) -> bool:
    """Whether a cube lies within reach, outside the drawer and with none on it."""
    offset = state.cubes - state.cubes[cube]
    above = (offset[:, 2] > CUBE / 2) & (np.hypot(*offset[:, :2].T) < CUBE)
    shut_in = scene.furniture and in_drawer(state.cubes[cube], state.drawer)
    x, y, _ = state.cubes[cube]
    within = abs(x - 0.425) <= REACH[0] and abs(y) <= REACH[1]
    return bool(within and not above.any() and not shut_in)


def _single(scene: Scene) -> list[Instruction]:
    found = []
    if scene.furniture:
        for thing in ("drawer", "window"):
            found += [Instruction(f"{k}_{thing}", k, thing) for k in ("open", "close")]
            found += [
                Instruction(f"{k}_{thing}", k, f"{thing} lock")
                for k in ("lock", "unlock")
            ]
        found.append(Instruction("put_cube_in_drawer", "put", "cube", 0))
    for index, color in enumerate(scene.cubes):
        cube = f"{color}_cube".lstrip("_")
        found += [
            Instruction(f"move_{cube}_{side}", side, cube, index)
            for side in ("left", "right")
        ]
        found += [
            Instruction(f"stack_{color}_on_{other}", "stack", cube, index, onto)
            for onto, other in enumerate(scene.cubes)
            if onto != index
        ]
    return [_worded(scene, instruction) for instruction in found]


def _worded(scene: Scene, instruction: Instruction) -> Instruction:
    wordings, held_out = scene_wordings.single(
        instruction.kind,
        instruction.target.removesuffix(" lock").replace("_", " "),
        f"{scene.cubes[instruction.onto]} cube",
    )
    return dataclasses.replace(instruction, wordings=wordings, held_out=held_out)


_COMPOUND = {
    "scene": (
        ("unlock_drawer", "open_drawer"),
        ("unlock_window", "open_window"),
        ("close_drawer", "lock_drawer"),
        ("close_window", "lock_window"),
        ("open_drawer", "put_cube_in_drawer"),
        ("put_cube_in_drawer", "close_drawer"),
        ("open_window", "move_cube_left"),
        ("open_drawer", "close_window"),
        ("unlock_drawer", "open_drawer", "put_cube_in_drawer"),
        ("put_cube_in_drawer", "close_drawer", "lock_drawer"),
    ),
    "cube-double": (
        ("move_red_cube_left", "move_blue_cube_right"),
        ("move_blue_cube_left", "move_red_cube_right"),
        ("move_red_cube_left", "stack_blue_on_red"),
        ("move_blue_cube_right", "stack_red_on_blue"),
    ),
    "cube-triple": (
        ("move_red_cube_left", "move_blue_cube_right"),
        ("move_blue_cube_left", "move_orange_cube_right"),
        ("move_orange_cube_left", "move_red_cube_right"),
        ("move_red_cube_left", "stack_blue_on_red"),
        ("move_blue_cube_right", "stack_orange_on_blue"),
        ("move_orange_cube_left", "stack_red_on_orange"),
        ("stack_red_on_blue", "stack_orange_on_red"),
        ("stack_blue_on_orange", "stack_red_on_blue"),
        ("stack_orange_on_red", "stack_blue_on_orange"),
        ("move_red_cube_left", "stack_blue_on_red", "stack_orange_on_blue"),
    ),
}


def _compound(scene: Scene, single: dict[str, Instruction]) -> list[Instruction]:
    found = []
    for parts in _COMPOUND[scene.name]:
        members = [single[part] for part in parts]
        cubes = [m.cube for m in members if m.is_cube]
        wordings, held_out = scene_wordings.compound([m.wordings for m in members])
        found.append(
            Instruction(
                "+".join(parts),
                "all",
                members[-1].target,
                cube=cubes[0] if cubes else -1,
                parts=parts,
                wordings=wordings,
                held_out=held_out,
            )
        )
    return found
