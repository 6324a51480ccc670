"""Two host devices for every test, and a small dataset to train on."""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib.machinery
import math
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import pytest

# Many tests train the same small programs: compile each once, for all processes that
# the tests start, and without the passes that take longest, which pay in long
# trainings only: the optimization of machine code, and the emitters of fused loops.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the workers inherit it
    programs = tempfile.mkdtemp(prefix="offjax-xla-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = programs
    atexit.register(shutil.rmtree, programs, ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
if "optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    fast = (
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
        "--xla_cpu_use_fusion_emitters=false"
    )
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {fast}"

# No test reaches out to the network; those of downloads serve themselves.
os.environ["OFFJAX_OFFLINE"] = "1"

from offjax.devices.layout import prepare_host_devices

KEPT_BYTES = 1.2e9
"""Of a process that keeps its programs from one module of tests to the next."""

prepare_host_devices(2)


def _resident() -> float:
    """Bytes of memory that this process holds; infinite where that is not known."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    except OSError:
        return math.inf


def _give_back() -> None:
    """Returns freed memory to the system, which glibc else keeps for this process."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """JAX keeps every program that a process compiles: gigabytes over all tests."""
    yield
    from offjax.devices import compilation

    if not compilation.release_programs() and _resident() > KEPT_BYTES:
        import jax

        jax.clear_caches()
        gc.collect()
        _give_back()


@pytest.fixture(scope="session")
def budget_dataset():
    """Sixty episodes of ten steps of Budget Allocation, with its environment."""
    from offjax.behavior import budget as behavior
    from offjax.envs import budget
    from tests.budget_data import dataset_of

    data = behavior.generate(10, "smooth", num_episodes=60, seed=1)
    return dataset_of(data, budget.spec(horizon=10), "test/budget10-v0")


@pytest.fixture(scope="session")
def stored_budget_dataset(budget_dataset, tmp_path_factory):
    """The folder of datasets in which `budget_dataset` lies."""
    from offjax.datasets import minari_io

    folder = tmp_path_factory.mktemp("datasets")
    minari_io.write(budget_dataset, {}, folder)
    return folder


class _Hidden:
    """The part of a tensor's interface that embedding a sentence needs."""

    def __init__(self, values):
        self.values = values

    def __getitem__(self, row):
        return _Hidden(self.values[row])

    def detach(self):
        return self

    def numpy(self):
        return self.values


@pytest.fixture
def encoder_library(monkeypatch):
    """Stand-ins for `transformers` and `torch`; gives the texts embedded so far.

    A text of n words has n hidden states of two numbers: the text's length.
    """
    asked = []

    class Pretrained:
        @classmethod
        def from_pretrained(cls, weights, local_files_only):
            assert local_files_only and (weights / "config.json").exists()
            return cls()

        def eval(self):
            return self

    class AutoTokenizer(Pretrained):
        def __call__(self, text, return_tensors):
            assert return_tensors == "pt"
            return {"text": text}

    class AutoModel(Pretrained):
        def __call__(self, text):
            asked.append(text)
            states = np.full((1, len(text.split()), 2), len(text), np.float32)
            return types.SimpleNamespace(last_hidden_state=_Hidden(states))

    for name in ("transformers", "torch"):
        library = types.ModuleType(name)
        library.__spec__ = importlib.machinery.ModuleSpec(name, None)
        library.AutoTokenizer, library.AutoModel = AutoTokenizer, AutoModel
        monkeypatch.setitem(sys.modules, name, library)
    return asked
