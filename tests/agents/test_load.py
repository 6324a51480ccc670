"""Agents from archives act as those of their runs, bit for bit."""

import dataclasses
import json
import zipfile

import jax
import numpy as np
import pytest

import offjax
from offjax.agents import archive
from offjax.errors import UserError
from offjax.runner import run as api
from offjax.runner.digests import of_slots
from tests.methods.language_data import corners

STEPS = {"num_steps": (3,)}
SMALL = STEPS | {"hidden_dims": ((16,),), "batch_size": (8,)}
KINDS = {
    "td3_bc": SMALL,
    "bc_vae": STEPS,
    "cfpi": SMALL,
    "rev_kl": SMALL,
    "asp": SMALL,
    "decision_transformer": STEPS
    | {"return_target": (5.0,), "context_length": (4,), "num_layers": (1,)},
    "dt_ag": STEPS | {"return_target": (5.0,)},
    "reinformer": STEPS,
    "tdmpc2": STEPS,
}


def actions(agent, task=None, width=None, steps=4):
    """Actions of a few steps at observations drawn from a fixed seed."""
    rng = np.random.default_rng(0)
    agent.reset(task)
    return np.stack(
        [agent.act(rng.normal(size=width), reward) for reward in range(steps)]
    )


def some(names, always):
    """Parameters; those that are not in `always` take long."""
    return [
        name if name in always else pytest.param(name, marks=pytest.mark.long)
        for name in names
    ]


@pytest.mark.parametrize("method", some(KINDS, ("td3_bc", "cfpi", "asp")))
def test_an_agent_acts_as_in_its_run(method, archived, varied):
    run, path = archived(method, varied, KINDS[method])
    width = varied.spec.observation_dim
    found = api.load_run(run.path, varied)
    for seed in (0, 1):
        mine = actions(offjax.load_agent(path, seed), width=width)
        np.testing.assert_array_equal(mine, actions(found.agent(seed), width=width))
    _holds_what_acts_alone(path)


@pytest.mark.parametrize(
    "method",
    some(["gcbc", "gcbc_goal", "hulc", "lcd", "lcd_mlp", "diffuser"], ("lcd_mlp",)),
)
def test_an_agent_follows_instructions_as_in_its_run(method, archived):
    # CALVIN's tasks are carried out elsewhere, so that nothing is evaluated here.
    spec = dataclasses.replace(corners().spec, domain="calvin")
    dataset = dataclasses.replace(corners(), spec=spec)
    planner = {"stride": (4,), "horizon": (2,), "replan": (4,)}
    more = planner if method in ("lcd", "lcd_mlp", "diffuser") else {}
    run, path = archived(method, dataset, STEPS | more)
    task = "go to the red corner"
    if method == "gcbc_goal":
        task = {"goals": np.zeros((3, 2), np.float32)}
    found = api.load_run(run.path, dataset)
    mine = actions(offjax.load_agent(str(path)), task, 2, 20)
    np.testing.assert_array_equal(mine, actions(found.agent(0), task, 2, 20))
    _holds_what_acts_alone(path)


def _holds_what_acts_alone(path):
    """No leaf of an optimizer, and no target network."""
    found = archive.read(path)
    for stage in found.stages:
        paths = jax.tree_util.tree_flatten_with_path(stage.states)[0]
        kept = found.manifest["stages"][stage.stage.name]["kept"]
        names = [jax.tree_util.keystr(paths[i][0]) for i in kept]
        assert not [n for n in names if "opt_state" in n or "target_" in n]


def test_several_settings_and_fewer_seeds(archived, budget_dataset):
    overrides = KINDS["td3_bc"] | {"alpha": (1.0, 9.0)}
    run, path = archived("td3_bc", budget_dataset, overrides, num_seeds=3)
    archive.write(api.load_run(run.path, budget_dataset), path, num_seeds=2)
    width = budget_dataset.spec.observation_dim
    for variant in run.variants:
        mine = actions(offjax.load_agent(path, 1, variant), width=width)
        np.testing.assert_array_equal(mine, actions(run.agent(1, variant), width=width))
    with pytest.raises(UserError, match=r"seed 2 is not in .*it has \[0, 1\]"):
        offjax.load_agent(path, seed=2)
    with pytest.raises(UserError, match="no variant 'x'"):
        offjax.load_agent(path, variant="x")
    with pytest.raises(UserError, match="3 seeds, fewer than the 4"):
        archive.write(api.load_run(run.path, budget_dataset), path, num_seeds=4)


def test_an_archive_is_always_the_same_bytes(archived, budget_dataset, tmp_path):
    run, path = archived("td3_bc", budget_dataset, KINDS["td3_bc"])
    archive.write(api.load_run(run.path, budget_dataset), tmp_path / "again.npz")
    assert path.read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_the_manifest_has_the_digest_of_every_checkpoint(archived, budget_dataset):
    run, path = archived(
        "td3_bc", budget_dataset, KINDS["td3_bc"] | {"num_steps": (6,)},
        checkpoint_every=2,
    )  # fmt: skip
    entry = archive.read(path).manifest["stages"]["td3_bc"]
    assert [step for step, _ in entry["digests"]] == [2, 4, 6]
    assert entry["digests"][-1][1] == of_slots(run.states["td3_bc"])
    assert len({d for _, slots in entry["digests"] for d in slots}) == 6


def changed(path, **values):
    """Writes other values into an archive's manifest."""
    with zipfile.ZipFile(path) as file:
        content = {name: file.read(name) for name in file.namelist()}
    manifest = json.loads(content[archive.MANIFEST])
    for name, value in values.items():
        *outer, last = name.split("__")
        place = manifest
        for key in outer:
            place = place[key]
        place[last] = value
    content[archive.MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"format": 9}, r"format 9, and this offjax reads 1.*version 0\.1\.0"),
        ({"config__method": "td4"}, "no method 'td4'|unknown method"),
        ({"stages__td3_bc__method": ["td3_bc", 0]}, "trained by version 0 of td3_bc"),
        ({"config__stages__td3_bc__config__hidden_dims": [8]}, "was changed, or is of"),
        ({"config__stages__td3_bc__config__colour": 1}, "hyperparameters colour"),
        ({"seeds": [0, 7]}, "damaged or incomplete"),
        ({"stages__td3_bc__sha256": "0"}, "not those written"),
        ({"stages": {}}, "damaged or incomplete"),
        ({"spec": []}, "damaged or incomplete"),
    ],
)
def test_archives_that_do_not_fit_are_refused(values, text, archived, budget_dataset):
    _, path = archived("td3_bc", budget_dataset, KINDS["td3_bc"])
    changed(path, **values)
    with pytest.raises(UserError, match=text):
        offjax.load_agent(path)


def test_files_that_are_no_archives_are_refused(tmp_path, archived, budget_dataset):
    run, path = archived("td3_bc", budget_dataset, KINDS["td3_bc"])
    with pytest.raises(UserError, match=r"There is no archive .*nowhere"):
        offjax.load_agent(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"--parameters.*load_run loads a run"):
        offjax.load_agent(run.path)
    content = path.read_bytes()
    for part in (content[: len(content) // 2], content[:-1], b"", b"PK\x03\x04x"):
        path.write_bytes(part)
        with pytest.raises(UserError, match="damaged or incomplete"):
            offjax.load_agent(path)
    np.savez(path, a=np.zeros(2))
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        offjax.load_agent(path)
    objects = np.array([{}], object)
    np.savez(path, a=objects, **{"manifest.json": objects})
    with pytest.raises(UserError):
        offjax.load_agent(path)
