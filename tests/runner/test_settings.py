import dataclasses

import pytest

from offjax.errors import UserError
from offjax.methods import bc, build
from offjax.methods.common import memoryless
from offjax.runner import settings
from offjax.runner.stages import slot_map, stage_slots
from offjax.types import Recipe


@pytest.fixture
def recipe():
    return build("asp", None, "paper")


def two_stages():
    first = bc.recipe(None, "paper").stages[0]
    second = dataclasses.replace(first, name="second", reads=("bc",))
    return Recipe("two", (first, second), memoryless("second"))


def test_no_override_is_one_default_run(recipe):
    (job,) = settings.expand(recipe, {})
    assert job.variants == ["default"]
    assert stage_slots(job, "asp", [4, 5]).seeds == (4, 5)


def test_traced_values_share_a_program_and_static_ones_do_not(recipe):
    jobs = settings.expand(recipe, {"lr": (1e-4, 3e-4), "k": (5, 20)}, "preset=paper")
    assert [job.recipe.stages[0].config.k for job in jobs] == [5, 20]
    assert jobs[0].variants == [
        "preset=paper,lr=0.0001,k=5",
        "preset=paper,lr=0.0003,k=5",
    ]
    slots = stage_slots(jobs[0], "asp", [0, 1, 2])
    assert slots.seeds == (0, 1, 2, 0, 1, 2)
    assert [v["lr"] for v in slots.values] == [1e-4] * 3 + [3e-4] * 3
    assert slots.of_setting == (0, 3)
    assert jobs[0].overrides == {"lr": (1e-4, 3e-4), "k": (5,)}


def test_a_value_equal_to_the_default_does_not_show_in_the_variant(recipe):
    default = recipe.stages[0].config.lr
    (job,) = settings.expand(recipe, {"lr": (default, 5e-4)})
    assert job.variants == ["default", "lr=0.0005"]


def test_num_steps_of_all_stages_and_of_one():
    (job,) = settings.expand(
        two_stages(), {"num_steps": (7,), "second.num_steps": (9,)}
    )
    assert [s.num_steps for s in job.recipe.stages] == [7, 9]


def lrs(overrides):
    """(stage → lr of each setting, with the recipe's where it is fixed), variants."""
    (job,) = settings.expand(two_stages(), overrides)
    found = {
        s.name: [
            each.of(s.name).get("actor_lr", s.config.actor_lr) for each in job.settings
        ]
        for s in job.recipe.stages
    }
    return found, job.variants


@pytest.mark.parametrize("general", [(3e-5,), (3e-5, 4e-5)])
@pytest.mark.parametrize("specific", [(1e-5,), (1e-5, 2e-5)])
def test_a_stages_own_setting_wins_whatever_the_order(general, specific):
    given = {"actor_lr": general, "second.actor_lr": specific}
    found, variants = lrs(given)
    reverse, _ = lrs(dict(reversed(given.items())))
    pairs = {(a, b) for a in general for b in specific}
    for each in (found, reverse):
        assert set(zip(each["bc"], each["second"], strict=True)) == pairs
    assert variants == [
        f"actor_lr={a:g},second.actor_lr={b:g}" for a in general for b in specific
    ]


def test_a_general_setting_that_sets_nothing_more_leaves_no_trace():
    given = {"actor_lr": (3e-4, 4e-4), "bc.actor_lr": (1e-4,)}
    for overrides in (given, dict(reversed(given.items()))):
        (job,) = settings.expand(build("bc", None, "demo"), overrides)
        assert job.recipe.stages[0].config.actor_lr == 1e-4
        assert job.variants == ["bc.actor_lr=0.0001"]
        assert job.overrides == {"bc.actor_lr": (1e-4,)}


def test_a_stages_own_default_is_named_beside_a_general_setting():
    default = two_stages().stages[1].config.actor_lr
    found, variants = lrs({"actor_lr": (3e-5,), "second.actor_lr": (default,)})
    assert found == {"bc": [3e-5], "second": [default]}
    assert variants == [f"actor_lr=3e-05,second.actor_lr={default:g}"]


def test_a_stage_is_trained_once_for_settings_that_do_not_concern_it():
    (job,) = settings.expand(two_stages(), {"second.actor_lr": (1e-4, 1e-3)})
    first = stage_slots(job, "bc", [0, 1])
    second = stage_slots(job, "second", [0, 1])
    assert first.num_slots == 2
    assert second.num_slots == 4
    assert slot_map(first, second, 2) == [0, 1, 0, 1]


def test_what_reads_a_stage_varies_with_its_settings():
    (job,) = settings.expand(two_stages(), {"bc.actor_lr": (1e-4, 1e-3)})
    second = stage_slots(job, "second", [0, 1])
    assert second.num_slots == 4
    assert second.values == ({}, {}, {}, {})
    first = stage_slots(job, "bc", [0, 1])
    assert slot_map(first, second, 2) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("learning_rate", 1e-3, ["learning_rate", "Known", "lr"]),
        ("k", 2.5, ["k", "2.5", "int"]),
        ("lr", "fast", ["lr", "fast", "float"]),
        ("bc.lr", 1e-3, ["bc.lr"]),
        ("position_encoding", 3, ["position_encoding", "bool"]),
    ],
)
def test_bad_overrides_name_the_thing_the_value_and_the_remedy(
    recipe, name, value, words
):
    with pytest.raises(UserError) as error:
        settings.expand(recipe, {name: (value,)})
    assert all(word in str(error.value) for word in words)


def test_types_are_widened_where_that_is_safe(recipe):
    (job,) = settings.expand(
        recipe, {"lr": (1,), "hidden_dims": (64, 32), "random_phase": ("true",)}
    )
    config = job.recipe.stages[0].config
    assert config.lr == 1.0 and isinstance(config.lr, float)
    assert config.hidden_dims == (64, 32)
    assert config.random_phase is True


def test_names_are_typed_without_parentheses():
    recipe = build("lcd", None, "small")
    for given, expected in (
        ("open_window,unlock_drawer", ("open_window", "unlock_drawer")),
        ("open_window", ("open_window",)),
        ("", ()),
    ):
        (job,) = settings.expand(recipe, {"planner.held_out": (given,)})
        planner = next(s for s in job.recipe.stages if s.name == "planner")
        assert planner.config.held_out == expected


def test_numbers_of_candidates_are_masks_of_the_largest():
    recipe = build("ebcq", None, "demo")
    (job,) = settings.expand(recipe, {"n": (2, 10, 5), "lower_bound_beta": (0.5,)})
    assert job.recipe.improve.config.n == 10
    assert job.variants == [
        f"n=2,{beta}" if n == 2 else beta if n == 10 else f"n=5,{beta}"
        for n in (2, 10, 5)
        for beta in ("lower_bound_beta=0.5",)
    ]
    assert [s.of("improve") for s in job.settings] == [
        {"active_n": 2.0},
        {"active_n": 10.0},
        {"active_n": 5.0},
    ]
    assert job.overrides == {"n": (2, 10, 5), "lower_bound_beta": (0.5,)}
    for given in ((0, 5), (-1,)):
        with pytest.raises(UserError, match="at least 1"):
            settings.expand(recipe, {"n": given})


def test_what_acting_alone_reads_leaves_training_as_it_is():
    recipe = build("cfpi_ensemble", None, "demo")
    (job,) = settings.expand(recipe, {"active_size": (1.0, 2.0), "log_tau": (0.1, 2.0)})
    slots = stage_slots(job, "sarsa", [4, 5])
    assert slots.seeds == (4, 5) and slots.values == ({}, {})
    assert slots.of_setting == (0, 0, 0, 0)
    acting = stage_slots(job, "improve", [4, 5])
    assert acting.num_slots == 8
    assert [s.of("ensemble")["active_size"] for s in job.settings] == [
        1.0,
        1.0,
        2.0,
        2.0,
    ]
    (one,) = settings.expand(recipe, {"active_size": (3.0,)})
    assert one.recipe.stages[1].config == recipe.stages[1].config
    assert one.recipe.acting["ensemble"].active_size == 3.0


def test_a_stage_that_is_read_depends_on_all_its_settings():
    recipe = build("rev_kl", None, "demo")
    (job,) = settings.expand(recipe, {"sarsa.discount": (0.9, 0.99)})
    assert stage_slots(job, "rev_kl", [0]).num_slots == 2


@pytest.mark.parametrize(
    "method, name, words",
    [
        ("iql", "polyak", "iql.tau"),
        ("cfpi", "lr", "bc.actor_lr"),
        ("reinformer_ag", "lr", "critic.critic_lr"),
        ("cfpi", "sarsa.lr", "sarsa.critic_lr"),
    ],
)
def test_a_former_name_is_refused_and_the_new_one_named(method, name, words):
    with pytest.raises(UserError, match=words):
        settings.expand(build(method, None, "demo"), {name: (1e-4,)})


@pytest.mark.parametrize(
    "method, name, value",
    [
        ("cfpi", "log_tau", -0.5),
        ("cfpi", "log_tau", float("nan")),
        ("idet", "delta", -1.0),
        ("mode_selection", "weight_threshold", -0.1),
    ],
)
def test_operator_settings_without_a_meaning_are_refused(method, name, value):
    with pytest.raises(UserError, match=name):
        settings.expand(build(method, None, "demo"), {name: (value, 0.5)})
    with pytest.raises(UserError, match="range"):
        settings.expand(
            build("cfpi", None, "demo"), {"num_draws": (3,), "log_tau": (1.5,)}
        )


@pytest.mark.parametrize(
    "name, value, match",
    [
        ("batch_size", 0, "at least 1"),
        ("hidden_dims", (64, 0), "at least 1"),
        ("batch_size", 2**40, "at most"),
        ("critic_lr", float("nan"), "not a number"),
        ("critic_lr", -1, "at least 0"),
        ("actor_lr", float("inf"), "finite"),
        ("iql.critic_lr", -1e-3, "at least 0"),
        ("tau", 1.5, r"\[0, 1\]"),
        ("discount", -0.1, r"\[0, 1\]"),
        ("expectile", 7.0, r"\[0, 1\]"),
    ],
)
def test_numbers_out_of_range_are_refused(name, value, match):
    recipe = build("iql", None, "demo")
    with pytest.raises(UserError, match=f"config.{name}=.*{match}"):
        settings.expand(recipe, {name: (value,)})


def test_whole_numbers_may_be_written_with_an_exponent():
    (job,) = settings.expand(build("bc", None, "demo"), {"num_steps": (1e4,)})
    assert job.recipe.stages[0].num_steps == 10_000
    assert isinstance(job.recipe.stages[0].num_steps, int)


def test_settings_that_make_no_program_are_blamed():
    (job,) = settings.expand(build("bc", None, "demo"), {"batch_size": (7,)})
    told = pytest.raises(
        UserError, match=r"stage bc .* batch_size=7: ValueError in .*: odd"
    )
    with told, settings.blamed(job, "bc"):
        raise ValueError("odd")
    (plain,) = settings.expand(build("bc", None, "demo"), {})
    with pytest.raises(ValueError, match="odd"), settings.blamed(plain, "bc"):
        raise ValueError("odd")
