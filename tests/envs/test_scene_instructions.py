"""Instructions by hand: when they are done, when they can be given, chains."""

import numpy as np
import pytest

from offjax.envs import scene_instructions as language
from offjax.envs.scene import SCENES, SceneState, get
from offjax.errors import UserError

SCENE, TRIPLE = get("scene"), get("cube-triple")


def state(cube=(0.35, 0.05, 0.02), unlocked=(True, True), drawer=0.0, window=0.0):
    return SceneState(
        np.array([cube]), np.array(unlocked), np.array(drawer), np.array(window)
    )


def cubes(*positions):
    nothing = np.zeros(())
    return SceneState(np.array(positions), np.zeros(2, bool), nothing, nothing)


def done(name, start, now, scene=SCENE):
    known = language.all_instructions(scene.name)
    return bool(language.succeeded(scene, known[name], start, now))


def can(name, now, scene=SCENE):
    known = language.all_instructions(scene.name)
    return language.feasible(scene, known[name], now)


def test_names():
    assert list(language.instructions("scene")) == [
        "open_drawer",
        "close_drawer",
        "lock_drawer",
        "unlock_drawer",
        "open_window",
        "close_window",
        "lock_window",
        "unlock_window",
        "put_cube_in_drawer",
        "move_cube_left",
        "move_cube_right",
    ]
    assert len(language.instructions("cube-triple")) == 6 + 6
    assert len(language.instructions("cube-double")) == 4 + 2


@pytest.mark.parametrize("name", SCENES)
def test_wordings(name):
    trained, tested = [], []
    for instruction in language.all_instructions(name).values():
        assert len(set(instruction.wordings)) == 8
        assert len(set(instruction.held_out)) == 2
        trained += instruction.wordings
        tested += instruction.held_out
        assert not any("{" in words for words in (*trained, *tested))
    assert len(set(trained)) == len(trained)  # no sentence means two things
    assert not set(trained) & set(tested)


@pytest.mark.parametrize(
    ("name", "now", "expected"),
    [
        ("open_drawer", state(drawer=0.125), True),
        ("open_drawer", state(drawer=0.115), False),
        ("close_drawer", state(drawer=0.039), True),
        ("open_window", state(window=0.165), True),
        ("open_window", state(window=0.155), False),
        ("close_window", state(window=0.041), False),
        ("lock_drawer", state(unlocked=(False, True)), True),
        ("lock_window", state(unlocked=(False, True)), False),
        ("unlock_window", state(unlocked=(False, True)), True),
        ("move_cube_left", state(cube=(0.35, 0.101, 0.02)), True),
        ("move_cube_left", state(cube=(0.35, 0.099, 0.02)), False),
        ("move_cube_left", state(cube=(0.35, 0.15, 0.05)), False),  # still carried
        ("move_cube_right", state(cube=(0.35, -0.01, 0.02)), True),
        # into the drawer, to the right of where it lay, is not meant by "right"
        ("move_cube_right", state(cube=(0.33, -0.24, 0.02), drawer=0.16), False),
        ("put_cube_in_drawer", state(cube=(0.33, -0.24, 0.066), drawer=0.16), True),
        ("put_cube_in_drawer", state(cube=(0.33, -0.24, 0.1), drawer=0.16), False),
        ("put_cube_in_drawer", state(cube=(0.33, -0.24, 0.066), drawer=0.0), False),
        (
            "put_cube_in_drawer+close_drawer",
            state(cube=(0.33, -0.36, 0.066), drawer=0.01),
            True,
        ),
        (
            "put_cube_in_drawer+close_drawer",
            state(cube=(0.33, -0.24, 0.066), drawer=0.16),
            False,
        ),
    ],
)
def test_success(name, now, expected):
    assert done(name, state(), now) == expected


def test_success_of_stacks():
    start = cubes((0.4, 0, 0.02), (0.4, 0.1, 0.02), (0.4, 0.2, 0.02))
    name = "stack_red_on_blue"
    stacked = cubes((0.41, 0.11, 0.06), *start.cubes[1:])
    assert done(name, start, stacked, TRIPLE)
    assert not done(name, start, start, TRIPLE)
    assert not done("stack_red_on_orange", start, stacked, TRIPLE)
    held = cubes((0.4, 0.1, 0.08), *start.cubes[1:])
    assert not done(name, start, held, TRIPLE)
    tower = cubes((0.4, 0.1, 0.06), (0.4, 0.1, 0.02), (0.4, 0.1, 0.1))
    assert done("stack_red_on_blue+stack_orange_on_red", start, tower, TRIPLE)
    assert not done("stack_red_on_blue+stack_orange_on_red", start, stacked, TRIPLE)


def test_success_has_leading_axes():
    many = SceneState(*(np.stack([x, x]) for x in state()))
    now = many._replace(drawer=np.array([0.0, 0.16]))
    known = language.instructions("scene")
    found = language.succeeded(SCENE, known["open_drawer"], many, now)
    np.testing.assert_array_equal(found, [False, True])
    found = language.succeeded(SCENE, known["move_cube_left"], many, now)
    np.testing.assert_array_equal(found, [False, False])


def test_feasible():
    assert can("open_drawer", state()) and not can("close_drawer", state())
    locked = state(unlocked=(False, False))
    assert not can("open_drawer", locked) and not can("open_window", locked)
    assert can("unlock_drawer", locked) and not can("lock_drawer", locked)
    assert can("unlock_drawer+open_drawer", locked)
    assert not can("unlock_drawer+open_drawer", state())
    assert not can("put_cube_in_drawer", state())
    assert can("open_drawer+put_cube_in_drawer", state())
    inside = state(cube=(0.33, -0.24, 0.066), drawer=0.16)
    for name in ("put_cube_in_drawer", "move_cube_left", "move_cube_right"):
        assert not can(name, inside)
    assert not can("move_cube_left", state(cube=(0.35, 0.12, 0.02)))  # no room
    assert not can("move_cube_right", state(cube=(0.8, 0.12, 0.02)))  # out of reach


def test_feasible_with_cubes_on_cubes():
    tower = cubes((0.4, 0, 0.06), (0.4, 0, 0.02), (0.4, 0.2, 0.02))
    assert can("move_red_cube_left", tower, TRIPLE)
    assert not can("move_blue_cube_left", tower, TRIPLE)
    assert not can("stack_red_on_blue", tower, TRIPLE)  # is there already
    assert not can("stack_orange_on_blue", tower, TRIPLE)
    assert can("stack_orange_on_red", tower, TRIPLE)
    assert not can("stack_red_on_blue+stack_orange_on_red", tower, TRIPLE)


@pytest.mark.parametrize(
    ("scene", "start"),
    [
        (SCENE, state(unlocked=(True, False), window=0.2)),
        (TRIPLE, cubes((0.4, 0, 0.02), (0.4, 0.1, 0.02), (0.4, 0.2, 0.02))),
    ],
)
def test_chains_can_follow(scene, start):
    rng = np.random.default_rng(0)
    known = language.instructions(scene.name)
    firsts = set()
    for _ in range(40):
        names = language.sample_chain(scene, start, rng)
        assert len(set(names)) == 5
        firsts.add(names[0])
        now = start
        for name, following in zip(names, (*names[1:], None), strict=True):
            assert language.feasible(scene, known[name], now)
            now = language.expected(scene, known[name], now)
            if following:
                assert known[name].target != known[following].target
    feasible = {n for n, i in known.items() if language.feasible(scene, i, start)}
    assert firsts <= feasible and len(firsts) > len(feasible) / 2


def test_expected_states_are_successes():
    """The symbolic transition leads to where the predicate holds."""
    for scene, start in (
        (SCENE, state(drawer=0.16)),
        (SCENE, state(unlocked=(False, False))),
        (TRIPLE, cubes((0.4, 0, 0.02), (0.4, 0.1, 0.02), (0.4, 0.2, 0.02))),
    ):
        for name, instruction in language.all_instructions(scene.name).items():
            after = language.expected(scene, instruction, start)
            assert (after is None) == (not language.feasible(scene, instruction, start))
            if after is not None:
                assert done(name, start, after, scene), name
                assert not done(name, start, start, scene), name


def test_no_chain():
    with pytest.raises(UserError, match="has 11"):
        language.sample_chain(SCENE, state(), np.random.default_rng(0), length=12)


def test_limits():
    known = language.all_instructions("scene")
    assert known["open_drawer"].limit == 150
    assert known["unlock_drawer+open_drawer"].limit == 250
    assert known["unlock_drawer+open_drawer+put_cube_in_drawer"].limit == 350
