"""Prints what there is.

    offjax list methods|datasets|environments|operators|critics|runs

Datasets that lie on this machine are marked with *. Runs are the newest first.
"""

from __future__ import annotations

from absl import flags

from offjax.cli import command as cli
from offjax.cli import usage
from offjax.errors import UserError

FLAGS = flags.FLAGS
POSITIONAL = "what"
TOPICS = ("methods", "datasets", "environments", "operators", "critics", "runs")


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("what", None, f"One of {', '.join(TOPICS)}.")
    flags.DEFINE_string("runs_dir", "runs", "Where runs are looked for.")
    cli.define_data_dir()


def methods() -> list[str]:
    """A line per method."""
    from offjax.methods import METHODS

    return [f"{name:24s}{_first_line(builder)}" for name, builder in METHODS.items()]


def datasets(data_dir: str | None = None) -> list[str]:
    """Ids by family."""
    from offjax.catalog.load import describe_datasets

    return describe_datasets(data_dir).splitlines()


def environments() -> list[str]:
    """Ids of the environments in JAX, in MuJoCo's batched engine, and of scenes."""
    from offjax import envs
    from offjax.catalog.collected import SCENES
    from offjax.envs import mujoco, scene
    from offjax.registration import ENTRY_POINTS

    engine = "ready" if mujoco.has_engine() else "pip install 'offjax[mujoco]'"
    scenes = (
        "ready" if scene.is_available() is None else "pip install 'offjax[ogbench]'"
    )
    families = {
        "in JAX, on the device": list(envs.JAX_ENVS),
        f"MuJoCo's batched engine ({engine})": sorted(mujoco.IDS)
        + [name for name in ENTRY_POINTS if name not in envs.JAX_ENVS],
        f"scenes with instructions ({scenes})": list(SCENES),
        "any other id that gymnasium.make knows, on threads": [],
    }
    lines: list[str] = []
    for title, names in families.items():
        lines += ["", f"# {title}", *names]
    return lines[1:]


def operators() -> list[str]:
    """A line per operator."""
    from offjax.improvement import OPERATORS

    found = OPERATORS.items()
    return [f"{name:28s}{_first_line(operator)}" for name, (operator, _) in found]


def critics() -> list[str]:
    """Names of the critics of --method=compose."""
    from offjax.methods.compose import CRITICS

    return list(CRITICS)


def runs(runs_dir: str = "runs") -> list[str]:
    """A line per run: id, status, method, dataset."""
    from offjax.runner import lookup
    from offjax.runner.records import RunFolder

    lines = []
    for path in lookup.folders(runs_dir):
        try:
            config, status = RunFolder(path).config, RunFolder(path).record["status"]
            text = f"{status:11s}  {config['method']}  {config['dataset']}"
        except (UserError, KeyError):  # half written, or damaged
            text = "unreadable"
        lines.append(f"{path.name}  {text}")
    return lines


def main(argv: list[str]) -> None:
    """Prints the list."""
    del argv
    answers = {
        "methods": methods,
        "datasets": lambda: datasets(FLAGS.data_dir),
        "environments": environments,
        "operators": operators,
        "critics": critics,
        "runs": lambda: runs(FLAGS.runs_dir),
    }
    if FLAGS.what not in answers:
        close = usage.near(FLAGS.what or "", answers)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        given = f"{FLAGS.what!r} is no list." if FLAGS.what else "Which list?"
        raise UserError(
            f"{given}{hint} There are {', '.join(answers)}: `offjax list methods`."
        )
    print("\n".join(answers[FLAGS.what]()))


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]
