"""Damaged files of every kind: a message for the user, never a traceback or their code.

Each example damages bytes (truncated, bits flipped) or contents (other types, shapes,
values, keys) of a sound file and loads it. It may load, since not every flipped bit
tells; whatever is raised must be UserError.
"""

import csv
import dataclasses
import io
import json
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offjax.datasets import Dataset, calvin, legacy, minari_io, ogbench
from offjax.envs import maze2d
from offjax.errors import UserError
from offjax.leaderboard import store

MARK = Path(__file__).with_name("ran-code-from-data")
ROWS = 24


class Payload:
    """Whoever unpickles this leaves a file behind."""

    def __reduce__(self):
        return open, (str(MARK), "w")


def flat():
    """Arrays of a small recording, three episodes of eight steps."""
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(ROWS, 4)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (ROWS, 2)).astype(np.float32),
        "rewards": rng.normal(size=ROWS).astype(np.float32),
        "terminals": np.zeros(ROWS, bool),
        "timeouts": np.arange(ROWS) % 8 == 7,
    }


# Damage to one array, to one entry of a JSON object, and to bytes.

ODD = ("", "x", -1, 0, 1e308, 10**12, None, [], {}, [[1]], True, "os:path-v0", "NaN")


def odd_array(array, kind, place):
    """`array` as something else; `place` in [0, 1) chooses a row."""
    row = int(place * max(len(array), 1))
    if kind in ("nan", "inf", "huge"):
        array = np.array(array, np.float64)
        array[row] = {"nan": np.nan, "inf": np.inf, "huge": 1e300}[kind]
        return array
    if kind == "objects":
        values = np.empty(len(array), object)
        values[:] = [Payload()] * len(array)
        return values
    return {
        "column": lambda: np.reshape(array, (-1, 1)),
        "short": lambda: array[:-1],
        "empty": lambda: array[:0],
        "scalar": lambda: np.array(1.0),
        "deep": lambda: np.zeros((len(array), 2, 2)),
        "wide": lambda: np.zeros((len(array), 9)),
        "bytes": lambda: np.full(len(array), b"x"),
        "text": lambda: np.full(len(array), "x"),
        "complex": lambda: array.astype(np.complex64),
        "int8": lambda: np.asarray(array).astype(np.int8),
        "half": lambda: np.asarray(array).astype(np.float16),
        "record": lambda: np.zeros(len(array), [("a", "f4"), ("b", "i2")]),
        "times": lambda: np.zeros(len(array), "M8[s]"),
    }[kind]()


KINDS = (
    *("nan", "inf", "huge", "objects", "column", "short", "empty", "scalar", "deep"),
    *("wide", "bytes", "text", "complex", "int8", "half", "record", "times", "gone"),
)


@dataclasses.dataclass(frozen=True)
class Damage:
    """What is done to a folder: `which` and `place` choose among what there is."""

    contents: bool
    which: float
    kind: str
    odd: int
    place: float
    keep: float
    flips: tuple[tuple[float, int], ...]

    def choose(self, options):
        """One of a list."""
        options = list(options)
        return options[int(self.which * len(options))]

    def json(self, text):
        """A JSON object with one entry (of some depth) changed or gone."""
        return json.dumps(self.tree(json.loads(text), ODD))

    def tree(self, value, odd=None):
        """Nested dicts and lists with one entry changed, in place, or gone."""
        odd = (*ODD, Payload(), np.full(2, Payload()), b"x", 1j) if odd is None else odd
        spots = []

        def visit(node):
            pairs = node.items() if isinstance(node, dict) else enumerate(node)
            for key, inner in pairs:
                spots.append((node, key))
                if isinstance(inner, (dict, list)):
                    visit(inner)

        visit(value)
        node, key = spots[int(self.place * len(spots))]
        if self.kind == "gone":
            del node[key]
        else:
            node[key] = odd[self.odd % len(odd)]
        return value

    def array(self, arrays):
        """The arrays with one of them changed or gone."""
        key = self.choose(arrays)
        rest = {name: value for name, value in arrays.items() if name != key}
        if self.kind == "gone":
            return rest
        return rest | {key: odd_array(arrays[key], self.kind, self.place)}

    def bytes(self, content):
        """The bytes cut short and with flipped bits."""
        damaged = bytearray(content[: round(self.keep * len(content))])
        for place, bit in self.flips:
            if damaged:
                damaged[int(place * len(damaged))] ^= 1 << bit
        return bytes(damaged)


share = st.floats(0, 1, exclude_max=True)
damages = st.builds(
    Damage,
    contents=st.booleans(),
    which=share,
    kind=st.sampled_from(KINDS),
    odd=st.integers(0, 99),
    place=share,
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
    flips=st.lists(st.tuples(share, st.integers(0, 7)), min_size=1, max_size=12).map(
        tuple
    ),
)


# The loaders: each makes a sound folder, damages it, and reads it.


def damage_bytes(folder, damage):
    path = damage.choose(sorted(p for p in folder.rglob("*") if p.is_file()))
    path.write_bytes(damage.bytes(path.read_bytes()))


def put_hdf5(path, arrays):
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            if value.dtype == object:
                value = np.full(len(value), np.void(pickle.dumps(Payload())))
            elif value.dtype.kind in "UM":
                value = value.astype("S")
            squeeze = "gzip" if value.ndim and len(value) else None
            file.create_dataset(key, data=value, compression=squeeze)


def hdf5(folder, damage):
    arrays = flat()
    put_hdf5(
        folder / "maze2d-umaze-v1.hdf5",
        damage.array(arrays) if damage.contents else arrays,
    )
    if not damage.contents:
        damage_bytes(folder, damage)
    legacy.read("maze2d-umaze-v1", folder)


def npz(folder, damage):
    arrays = flat()
    arrays = {
        "observations": arrays["observations"],
        "actions": arrays["actions"],
        "terminals": arrays["timeouts"],
        "qpos": np.zeros((ROWS, 25), np.float32),
        "button_states": np.zeros((ROWS, 2), np.int64),
    }
    save = np.savez_compressed if damage.odd % 2 else np.savez
    content = damage.array(arrays) if damage.contents else arrays
    save(folder / "scene-play-v0.npz", **content)
    if not damage.contents:
        damage_bytes(folder, damage)
    ogbench.read("scene-play-singletask-v0", folder)


def minari(folder, damage):
    name = "mine/maze-v0"
    shutil.copytree(minari_template(folder.parent), folder, dirs_exist_ok=True)
    if damage.odd % 3:
        (folder / name / "offjax_rows.npz").unlink()
    main = folder / name / "data/main_data.hdf5"
    metadata = folder / name / "data/metadata.json"
    if not damage.contents:
        damage_bytes(folder, damage)
    elif damage.keep == 1.0:
        metadata.write_text(damage.json(metadata.read_text()))
    else:
        with h5py.File(main, "a") as file:
            group = file[f"episode_{int(damage.place * 3)}"]
            key = damage.choose(group)
            array = np.asarray(group[key])
            del group[key]
            if damage.kind == "objects":
                group[key] = pickle.dumps(Payload()).hex()
            elif damage.kind != "gone":
                value = odd_array(array, damage.kind, damage.place)
                group[key] = value.astype("S") if value.dtype.kind in "UM" else value
    minari_io.read(name, folder)


def minari_template(folder):
    """A sound dataset, written once."""
    template = folder / "template"
    if not template.exists():
        arrays = flat()
        following = np.roll(arrays["observations"], -1, axis=0)
        dataset = Dataset.from_arrays(
            **arrays,
            next_observations=following,
            spec=maze2d.spec("umaze"),
            id="mine/maze-v0",
        )
        minari_io.write(dataset, {"seed": 0}, template)
        minari_io.read("mine/maze-v0", template)  # which leaves the cache
    return template


def runs(folder, damage):
    run = folder / "bc-mine-0"
    run.mkdir()
    config = {
        "schema": 1,
        "method": "bc",
        "dataset": "mine/maze-v0",
        "seeds": [0, 1],
        "config": {"bc": {"lr": [0.1, 0.2]}},
    }
    info = {
        "schema": 1,
        "status": "finished",
        "start": "2026-01-01T00:00:00+00:00",
        "diverged": [{"variant": "default", "seed": 1}],
        "versions": {"jax": "1"},
        "total_steps": 10,
    }
    (run / "config.json").write_text(json.dumps(config))
    (run / "run.json").write_text(json.dumps(info))
    (run / "scores.csv").write_text(scores())
    names = ("config.json", "run.json", "scores.csv")
    if damage.odd % 2:
        sums = store.checksums(run, names)
        (run / "checksums.json").write_text(json.dumps(sums))
    if not damage.contents:
        damage_bytes(folder, damage)
    else:
        path = damage.choose(sorted(run.glob("*.json")))
        path.write_text(damage.json(path.read_text()))
    found = store.read([folder])
    for one in found.runs:
        assert isinstance(one.start, float) and one.describe("versions", "jax") != b""
        assert all(seed == int(seed) for _, seed in one.diverged)
    assert found.runs or found.notes


COLUMNS = (
    *("method", "variant", "dataset", "seed", "step", "episodes"),
    *("return_mean", "return_std", "score"),
)


def scores():
    """A sound scores.csv: two seeds, two evaluations."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for seed in (0, 1):
        for step in (5, 10):
            row = ("bc", "default", "mine/maze-v0", seed, step, 3, 1.5, 0.5, 50.0)
            writer.writerow(row)
    return stream.getvalue()


def calvins(folder, damage):
    """Recordings of four and two frames; a frame, the bounds or the pickle is bad."""
    split = folder / "task" / "training"
    (split / "lang_annotations").mkdir(parents=True)
    tables = {f"episode_{i:07d}.npz": calvin_frame(i) for i in (0, 1, 2, 3, 10, 11)}
    bounds = {"ids": np.array([[0, 3], [10, 11]])}
    described = {
        "language": {
            "ann": ["open it", "shut it"],
            "task": ["open", "close"],
            "emb": np.ones((2, 1, 3), np.float32),
        },
        "info": {"indx": [(0, 2), (10, 11)], "episodes": []},
    }
    if damage.contents:
        what = damage.choose([*tables, "bounds", *["pickle"] * 6])
        if what == "bounds":
            bounds = damage.array(bounds)
        elif what == "pickle":
            described = damage.tree(described)
        else:
            tables[what] = damage.array(tables[what])
    for name, arrays in tables.items():
        np.savez(split / name, **arrays)
    for array in bounds.values():
        np.save(split / calvin.BOUNDS, array)
    annotations = split / "lang_annotations" / "auto_lang_ann.npy"
    np.save(annotations, np.array(described, object), allow_pickle=True)
    if not damage.contents:
        damage_bytes(folder, damage)
    calvin.table(folder / "task")
    calvin.read(folder / "task")


def calvin_frame(index):
    rng = np.random.default_rng(index)
    sizes = {"robot_obs": 15, "scene_obs": 24, "rel_actions": 7}
    return {key: rng.uniform(-1, 1, size) for key, size in sizes.items()}


LOADERS = {"hdf5": hdf5, "npz": npz, "minari": minari, "runs": runs, "calvin": calvins}


def fuzz(load: Callable[[Path, Damage], None], root: Path, count: int) -> None:
    """Loads `count` damaged folders."""

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damages)
    def attempt(damage: Damage) -> None:
        folder = root / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load(folder, damage)
            except UserError as error:
                assert str(error)
        assert not MARK.exists()

    attempt()


@pytest.fixture(autouse=True)
def no_mark(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFJAX_CACHE", str(tmp_path / "cache"))
    yield
    MARK.unlink(missing_ok=True)


@pytest.mark.parametrize("name", LOADERS)
def test_damaged_files(name, tmp_path):
    fuzz(LOADERS[name], tmp_path, 30)


@pytest.mark.long
@pytest.mark.parametrize("name", LOADERS)
def test_a_thousand_damaged_files(name, tmp_path):
    fuzz(LOADERS[name], tmp_path, 1000)
