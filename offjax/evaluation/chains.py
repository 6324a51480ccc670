"""Chains of instructions: CALVIN's own thousand, and what a policy made of chains.

CALVIN's long-horizon benchmark (Mees et al. 2022) gives five instructions in a row
without a reset, and stops at the first that fails. `generate` draws its chains as the
benchmark's code does: they equal the published list one for one.
"""

from __future__ import annotations

import functools
import itertools
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from offjax import cache
from offjax.envs.calvin_table import BLOCKS, KEYS, State
from offjax.errors import UserError

LENGTH = 5
_VALUES = (
    (0, 1),
    (0, 1),
    ("right", "left"),
    ("closed", "open"),
    *[("table", "slider_right", "slider_left")] * 3,
)
_SIDES = ("slider_right", "slider_left")

Chain = tuple[State, tuple[str, ...]]
_Rule = tuple[Mapping[str, Any], Mapping[str, Any]]


@functools.lru_cache
def tasks() -> dict[str, int]:
    """CALVIN's 34 tasks in the benchmark's order, with their categories.

    A chain never asks for two of the same category.
    """
    turns = [f"_{b}_block_{side}" for b in BLOCKS for side in ("right", "left")]
    places = {"table": 4, "slider": 5, "drawer": 6}
    return {
        **{f"{verb}{turn}": 1 for verb in ("rotate", "push") for turn in turns},
        **{f"move_slider_{side}": 2 for side in ("left", "right")},
        **{f"{verb}_drawer": 3 for verb in ("open", "close")},
        **{f"lift_{b}_block_{p}": places[p] for b in BLOCKS for p in places},
        **{f"place_in_{place}": 7 for place in ("slider", "drawer")},
        "stack_block": 10,
        "unstack_block": 11,
        **{f"turn_{s}_lightbulb": 8 for s in ("on", "off")},
        **{f"turn_{s}_led": 8 for s in ("on", "off")},
        "push_into_drawer": 9,
    }


def effects(task: str, state: State) -> list[State]:
    """The states to which `task` can lead from `state`, one per rule that applies.

    A task that could lead to several is ambiguous and is not asked for.
    """
    return [
        {**state, **effect}
        for condition, effect in _rules(task)
        if all(_holds(state[key], value) for key, value in condition.items())
    ]


def _holds(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, tuple) else value == wanted


@functools.lru_cache
def _rules(task: str) -> tuple[_Rule, ...]:
    """Conditions and effects of a task; a tuple is met by any of its values."""
    empty = {"grasped": 0}
    return tuple(
        ({**empty, **condition}, effect) for condition, effect in _bare_rules(task)
    )


def _bare_rules(task: str) -> Iterator[_Rule]:
    words = task.split("_")
    blocks = [f"{b}_block" for b in BLOCKS]
    others = {x: [y for y in blocks if y != x] for x in blocks}
    if words[0] == "rotate" or (words[0] == "push" and words[2] == "block"):
        yield {f"{words[1]}_block": "table"}, {}
    elif words[0] == "move":
        other = {"left": "right", "right": "left"}[words[2]]
        yield {"slider": other}, {"slider": words[2]}
    elif words[0] in ("open", "close"):
        before, after = ("closed", "open")[:: 1 if words[0] == "open" else -1]
        yield {"drawer": before}, {"drawer": after}
    elif words[0] == "lift":
        block, place = f"{words[1]}_block", words[3]
        held = {block: "grasped", "grasped": 1}
        if place == "table":
            yield {block: "table"}, held
        elif place == "drawer":
            yield {block: "drawer", "drawer": "open"}, held
        else:  # the slider's door must stand at the other side
            yield {block: "slider_left", "slider": "right"}, held
            yield {block: "slider_right", "slider": "left"}, held
    elif words[0] == "turn":
        yield {words[2]: int(words[1] == "off")}, {words[2]: int(words[1] == "on")}
    elif task == "place_in_slider":
        for x, side in itertools.product(blocks, ("right", "left")):
            condition = {x: "grasped", "grasped": 1, "slider": side}
            yield condition, {x: f"slider_{side}", "grasped": 0}
    elif task == "place_in_drawer":
        for x in blocks:
            condition = {x: "grasped", "grasped": 1, "drawer": "open"}
            yield condition, {x: "drawer", "grasped": 0}
    elif task == "push_into_drawer":
        for x in blocks:
            aside = {y: _SIDES for y in others[x]}
            yield {x: "table", "drawer": "open", **aside}, {x: "drawer"}
    elif task == "stack_block":
        for x, y in itertools.permutations(blocks, 2):
            condition = {x: "grasped", "grasped": 1, y: "table"}
            yield condition, {x: "stacked_top", y: "stacked_bottom", "grasped": 0}
    elif task == "unstack_block":
        for x, y in itertools.permutations(blocks, 2):
            condition = {x: "stacked_top", y: "stacked_bottom"}
            yield condition, {x: "table", y: "table"}
    else:
        raise UserError(f"CALVIN has no task {task!r}; it has {', '.join(tasks())}.")


def initial_states() -> list[State]:
    """The 192 symbolic states that chains begin in, in the benchmark's order."""
    found = []
    for values in itertools.product(*_VALUES):
        places = values[4:]
        if places.count("table") in (1, 2) and all(places.count(s) < 2 for s in _SIDES):
            found.append({**dict(zip(KEYS, values, strict=True)), "grasped": 0})
    return found


def generate(num_chains: int = 1000, cached: bool = True) -> list[Chain]:
    """CALVIN's chains: pairs of an initial state and five tasks.

    For 1000 they are the published ones. Drawing them takes some seconds; they are
    kept in the cache, unless `cached` is False. The initial states share the chains as
    evenly as possible.

    Raises:
      UserError: no chains are asked for.
    """
    if num_chains < 1:
        raise UserError(f"{num_chains} chains were asked for; ask for 1 or more.")
    path = cache.folder("chains") / f"calvin-{num_chains}.json"
    if cached and path.is_file():
        return [(state, tuple(chain)) for state, chain in json.loads(path.read_text())]
    states = initial_states()
    shares = [len(part) for part in np.array_split(range(num_chains), len(states))]
    chains = [
        (state, chain)
        for i, (state, share) in enumerate(zip(states, shares, strict=True))
        for chain in _draw(state, share, seed=i)
    ]
    np.random.RandomState(0).shuffle(chains)  # type: ignore[arg-type]
    if cached:
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        temporary.write_text(json.dumps(chains))
        temporary.replace(path)
    return chains


def _draw(state: State, count: int, seed: int) -> list[tuple[str, ...]]:
    """Chains from one state: all five at random, again until they can follow."""
    names = list(tasks())
    category = list(tasks().values())
    rng = np.random.RandomState(seed)
    known: dict[tuple, tuple | None] = {}

    def after(values: tuple, task: int) -> tuple | None:
        if (values, task) not in known:
            keys = (*KEYS, "grasped")
            now = effects(names[task], dict(zip(keys, values, strict=True)))
            known[values, task] = tuple(now[0].values()) if len(now) == 1 else None
        return known[values, task]

    start = tuple(state.values())
    possible = {task for task in range(len(names)) if after(start, task)}
    every = np.arange(len(names))
    found: list[tuple[str, ...]] = []
    while len(found) < count:
        # The numbers that choice(34, 5, replace=False) would draw.
        order = every.copy()
        rng.shuffle(order)
        if order[0] not in possible:
            continue
        drawn = order[:LENGTH].tolist()
        if len({category[task] for task in drawn}) < LENGTH:
            continue
        values: tuple | None = start
        for task in drawn:
            values = None if values is None else after(values, task)
        if values is not None:
            found.append(tuple(names[task] for task in drawn))
    return found


HELD_OUT = (
    "lift_pink_block_table",
    "lift_red_block_slider",
    "push_red_block_left",
    "push_into_drawer",
    "rotate_blue_block_right",
)
"""The tasks that Language Control Diffusion leaves out of training (its Table 4.2)."""


def single_task(given: Sequence[Chain], task: str, count: int = 20) -> list[Chain]:
    """`count` chains that end with `task`, cut from those that reach it soonest.

    Args:
      given: such as `generate(10_000)`.
      task: what is tested; some need a task or two before them, such as a lift.
      count: how many chains.

    Raises:
      UserError: too few of the chains hold the task.
    """
    cut = [
        (state, chain[: chain.index(task) + 1])
        for state, chain in given
        if task in chain
    ]
    if len(cut) < count:
        raise UserError(
            f"Of the {len(given)} chains {len(cut)} hold {task!r}, fewer than the "
            f"{count} asked for; generate more chains."
        )
    return sorted(cut, key=lambda pair: len(pair[1]))[:count]


def success_rates(solved: np.ndarray, length: int = LENGTH) -> np.ndarray:
    """Share of chains with at least 1, 2, … `length` instructions in a row, [..., L].

    `solved` [..., N] int counts those done before the first failure.
    """
    solved = np.asarray(solved)[..., None]
    return (solved >= np.arange(1, length + 1)).mean(axis=-2)


def average_length(solved: np.ndarray) -> np.ndarray:
    """Mean number of instructions done in a row, [...], from `solved` [..., N]."""
    return np.asarray(solved).mean(axis=-1)


def per_task(
    chains: Sequence[Sequence[str]], solved: Sequence[int]
) -> dict[str, tuple[int, int]]:
    """Successes and attempts of every task that was reached.

    Tasks after the first failure of a chain are not attempted: the rates of different
    policies are not over the same tasks.

    Args:
      chains: tasks of each chain.
      solved: tasks done before the first failure, of each chain.
    """
    counts: dict[str, tuple[int, int]] = {}
    for chain, done in zip(chains, solved, strict=True):
        for i, task in enumerate(chain[: done + 1]):
            successes, attempts = counts.get(task, (0, 0))
            counts[task] = (successes + (i < done), attempts + 1)
    return dict(sorted(counts.items()))
