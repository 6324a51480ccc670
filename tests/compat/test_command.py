"""Scripts in the style of those written for D4RL, run by the command."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from offjax.compat import wandb

ROOT = Path(__file__).parents[2]

CLONING = """
import sys
assert "jax" not in sys.modules  # settings of JAX that follow still count
from dataclasses import dataclass, asdict
import d4rl
import gym
import helper
import numpy as np
import wandb
from gym.spaces import Box

assert gym.envs.registration.register is gym.register

@dataclass
class Config:
    env: str = sys.argv[1]
    seed: int = int(sys.argv[2])
    name: str = "LinearBC"


config = Config()
env: gym.Env = gym.make(config.env)
assert isinstance(env.action_space, Box)
data = d4rl.qlearning_dataset(env)
mean, std = data["observations"].mean(0), data["observations"].std(0) + 1e-3
inputs = (data["observations"] - mean) / std
weights = np.linalg.lstsq(inputs, data["actions"], rcond=None)[0]
env = gym.wrappers.TransformObservation(env, lambda o: (o - mean) / std)
env.seed(config.seed)
env.action_space.seed(config.seed)
wandb.init(config=asdict(config), project="p", group="g", name=config.name)
wandb.run.save()
returns = []
for _ in range(2):
    state, done, total = env.reset(), False, 0.0
    while not done:
        state, reward, done, _ = env.step(helper.act(state, weights))
        total += reward
    returns.append(total)
score = env.get_normalized_score(np.mean(returns)) * 100.0
wandb.log({"loss": np.float32(0.5), "d4rl_normalized_score": score}, step=10)
print("score", score, d4rl.get_normalized_score(config.env, np.array(returns)).shape)
"""

VECTOR = """
import d4rl, gym, jax, jax.numpy as jnp, numpy as np, sys

name = sys.argv[1]
env = gym.vector.make(name, num_envs=4)
data = d4rl.qlearning_dataset(gym.make(name))
target = jnp.array(data["actions"]).mean(0)
policy = jax.jit(jax.vmap(lambda o: target + 0 * o.sum()))
obs, total, over, step = env.reset(), np.zeros(4), np.zeros(4, bool), 0
while step < env.env_fns[0]().spec.max_episode_steps and not over.all():
    obs, reward, done, info = env.step(np.array(policy(jnp.array(obs))))
    total += reward * ~over
    over |= done
    step += 1
assert over.all()
print("scores", *d4rl.get_normalized_score(name, total))
env.close()
"""


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "hopper_medium-v2.hdf5", "w") as file:
        file["observations"] = rng.normal(size=(60, 11)).astype(np.float32)
        file["actions"] = rng.uniform(-1, 1, (60, 3)).astype(np.float32)
        file["rewards"] = np.ones(60, np.float32)
        file["terminals"] = np.arange(60) % 20 == 19
        file["timeouts"] = np.zeros(60, bool)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "cloning.py").write_text(CLONING)
    (tmp_path / "scripts" / "vector.py").write_text(VECTOR)
    helper = "def act(state, weights):\n    return state @ weights\n"
    (tmp_path / "scripts" / "helper.py").write_text(helper)
    return tmp_path


def run(folder, *args, **settings):
    env = os.environ | {
        "D4RL_DATASET_DIR": str(folder),
        "MINARI_DATASETS_PATH": str(folder / "minari"),
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),  # no key for wandb
        **settings,
    }
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        env.pop(name, None)
    return subprocess.run(
        [sys.executable, "-m", "offjax.compat", *map(str, args)],
        cwd=folder, env=env, capture_output=True, text=True,
    )  # fmt: skip


def test_a_script_trains_and_evaluates_on_a_d4rl_file(folder):
    first = run(folder, "scripts/cloning.py", "hopper-medium-v2", 3)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("score ") and "(2,)" in first.stdout
    again = run(folder, "scripts/cloning.py", "hopper-medium-v2", 3)
    assert again.stdout == first.stdout
    if importlib.util.find_spec("wandb") is None:
        runs = sorted(folder.glob("wandb_local/*"))
        assert "wandb_local" in first.stderr
        settings = json.loads((runs[0] / "config.json").read_text())
        assert settings == {"name": "LinearBC", "env": "hopper-medium-v2", "seed": 3}
        (line,) = (runs[0] / "history.jsonl").read_text().splitlines()
        found = json.loads(line)
        assert (found["_step"], found["loss"]) == (10, 0.5)
        score = float(first.stdout.split()[1])
        assert found["d4rl_normalized_score"] == pytest.approx(score)


WANDB = """
import os

class Run:
    def save(self, glob_str):
        print("saved", glob_str)

def init(**_):
    global run
    print("mode", os.environ["WANDB_MODE"])
    run = Run()
"""


def test_an_installed_wandb_works_offline_and_takes_old_calls(folder):
    (folder / "site" / "wandb").mkdir(parents=True)
    (folder / "site" / "wandb" / "__init__.py").write_text(WANDB)
    (folder / "script.py").write_text(
        "import wandb\nwandb.init(project='p')\nwandb.run.save()\nwandb.run.save('f')"
    )
    done = run(folder, "script.py", PYTHONPATH=f"{ROOT}:{folder / 'site'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["mode", "offline", "saved", "f"]
    assert "works offline" in done.stderr


def test_names_that_jax_has_dropped_are_there(folder):
    (folder / "script.py").write_text(
        "import jax\nprint(jax.tree_map(lambda x: -x, {'a': [1, 2]}))"
    )
    assert run(folder, "script.py").stdout == "{'a': [-1, -2]}\n"


def test_the_stand_in_of_wandb_ends_with_its_block(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with wandb.init(config={"a": 1}) as run:
        run.log({"x": 2.0})
    (folder,) = tmp_path.glob("wandb_local/*")
    assert json.loads((folder / "history.jsonl").read_text()) == {"_step": 0, "x": 2.0}
    with pytest.raises(ValueError, match="closed"):
        run.log({"x": 3.0})


def test_a_script_trains_and_evaluates_on_this_suites_data(folder):
    done = run(folder, "scripts/vector.py", "offjax-budget-t10-smooth-v0")
    assert done.returncode == 0, done.stderr
    scores = [float(word) for word in done.stdout.split()[1:]]
    assert len(scores) == 4 and min(scores) > 0 and max(scores) < 1


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import gym\ngym.make('hoper-medium-v2')", "hopper-medium-v2"),
        (
            "import gym\ngym.make('walker2d-medium-v2').get_dataset()",
            "walker2d_medium-v2.hdf5",
        ),
        ("from gym.wrappers import Monitor", "Monitor"),
        ("import gym.envs.mujoco", "gym.envs.mujoco"),
    ],
)
def test_what_cannot_be_given_is_a_sentence_with_the_place(folder, script, message):
    (folder / "script.py").write_text(script)
    done = run(folder, "script.py")
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert f"script.py, line {1 + script.count(chr(10))}" in done.stderr


def test_the_scripts_own_errors_are_its_own(folder):
    (folder / "script.py").write_text("import gym\n1 / 0\n")
    done = run(folder, "script.py")
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr


def test_the_command_without_a_script(folder):
    done = run(folder, "none.py")
    assert done.returncode == 2 and "there is no script none.py" in done.stderr
    assert "usage" in run(folder, "--help").stdout
