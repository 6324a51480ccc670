"""Training of a run, or of several together: stages in turn, and the stage store."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from offjax import locks
from offjax.datasets import streams
from offjax.datasets.stored import StoredDataset
from offjax.devices import hosts
from offjax.devices.compilation import release_programs
from offjax.errors import UserError
from offjax.runner import memory, settings, waves
from offjax.runner.evaluator import Evaluator
from offjax.runner.loop import StageLoop
from offjax.runner.progress import Progress
from offjax.runner.recorder import recording
from offjax.runner.records import RunFolder, environment, open_folder
from offjax.runner.stages import StageRun, stage_data, template
from offjax.runner.together import Member, Part, groups, require_memory
from offjax.runner.training import Training
from offjax.types import Model, Pytree

LOCK_SECONDS = 60.0
"""How long a sweep's job waits for a killed predecessor to be gone."""


def train(training: Training) -> RunFolder:
    """Trains and evaluates all stages; the run's folder, finished.

    Raises:
      UserError: another process is at this very run, or the disk refuses.
      Interrupted: the run was asked to stop, and its state is saved.
    """
    (folder,) = train_together([training])
    return folder


def train_together(trainings: Sequence[Training]) -> list[RunFolder]:
    """`train` of several runs: of one method with equal options on several datasets.

    Stages whose data and networks have the same shapes are one program, in which every
    slot computes what it computes in a run of its own. The others are trained one after
    another, and so are waves. Each run has its folder and its stages in the store.
    """
    release_programs()
    for training in trainings:
        if isinstance(training.dataset, StoredDataset):
            training.dataset.verify()
    with _alone(trainings):
        folders, begun = [], []
        for training in trainings:
            folder, resumed = _open(training)
            folders.append(folder)
            if not (resumed and folder.record["status"] == "finished"):
                begun.append((training, folder, resumed))
        if not begun:
            return folders
        options = trainings[0].options
        if options.at_once < options.num_seeds:
            for each in begun:
                _train_in_waves(*each)
        else:
            _train_stages(begun, _progress(trainings[0]))
    return folders


def _open(training: Training) -> tuple[RunFolder, bool]:
    """The folder of a run, and whether it was begun before."""
    folder, resumed = open_folder(training.config, training.hash, training.options)
    if resumed and folder.record["status"] == "finished":
        print(f"--resume: {folder.path} is finished already.")
        training.load_states(folder.record["stages"])
    elif resumed:
        hosts.agree(lambda: waves.require_same(training, folder))
    return folder, resumed


def _progress(training: Training, wave: str = "") -> Progress:
    options = training.options
    return Progress(options.num_seeds, options.quiet or not hosts.is_writer(), wave)


Begun = tuple[Training, RunFolder, bool]
"""A run, its folder, and whether it was begun before."""


def _train_stages(begun: Sequence[Begun], progress: Progress) -> None:
    """Trains and evaluates all seeds of runs, or of a wave of one."""
    datasets = [training.dataset.card.id for training, _, _ in begun]
    with contextlib.ExitStack() as stack:
        members = []
        for i, (training, folder, resumed) in enumerate(begun):
            evaluator, others = Evaluator(training), datasets[:i] + datasets[i + 1 :]
            recorder = stack.enter_context(
                recording(training, evaluator, folder, resumed, progress, others)
            )
            resume = recorder.restore_point() if resumed else 0
            members.append(Member(training, recorder, evaluator, resume))
        for i in range(len(members[0].training.stages)):
            _train_stage(members, i)


def _train_in_waves(training: Training, folder: RunFolder, resumed: bool) -> None:
    """Trains some seeds after the others, and joins what they come to."""
    options = training.options
    count = math.ceil(options.num_seeds / options.at_once)
    evaluator, progress = Evaluator(training), _progress(training)
    with recording(training, evaluator, folder, resumed, progress) as recorder:
        for number, wave in enumerate(waves.of(training), start=1):
            mine, begun = waves.open_folder(folder, number, wave)
            if begun and mine.record["status"] == "finished":
                progress.say(f"wave {number}/{count}: trained before")
                wave.load_states(mine.record["stages"])
            else:
                named = _progress(wave, f"wave {number}/{count} ")
                _train_stages([(wave, mine, begun)], named)
            waves.add_states(training, wave)
            recorder.account.add(mine.record)
        for run in training.stages:
            training.save_states(run)
        variants = training.job.variants
        recorder.join(hosts.agree(lambda: waves.tables(folder, variants)))
    waves.remove(folder)


@contextlib.contextmanager
def _alone(trainings: Sequence[Training]) -> Iterator[None]:
    """No other process writes runs of these configurations meanwhile."""
    with contextlib.ExitStack() as stack:
        # In one order, so that two processes do not wait for each other.
        for training in sorted(trainings, key=lambda each: each.hash):
            hosts.require_same({"configuration": training.hash} | environment())
            options, dataset = training.options, training.dataset.card.id
            parent = Path(options.runs_dir) / training.method / dataset
            path = parent / f".lock-{training.hash[:16]}"
            lock = locks.held(path, LOCK_SECONDS if options.sweep else 0.0)
            hosts.agree(functools.partial(stack.enter_context, lock))
        yield


def _train_stage(members: Sequence[Member], number: int) -> None:
    """Trains a stage of runs, or takes it from the store; its states lie there then."""
    with contextlib.ExitStack() as stack:
        for member in sorted(members, key=lambda m: m.training.stages[number].key):
            lock = _locked(member, number)
            hosts.agree(functools.partial(stack.enter_context, lock))
        todo = [_prepared(member, member.training.stages[number]) for member in members]
        for group in groups([part for part in todo if part is not None]):
            for parts in _fitting(group):
                StageLoop(parts).run()
                for part in parts:
                    recorder = part.member.recorder
                    recorder.checkpoints.wait()  # rows' checkpoint before the stage
                    part.member.training.save_states(part.run)


def _fitting(group: Sequence[Part]) -> Iterator[Sequence[Part]]:
    """The group, if it fits the memory; else its parts, one at a time."""
    if len(group) > 1:
        try:
            require_memory(group)
        except UserError:
            group[0].member.recorder.progress.say(
                f"{group[0].run.stage.name}: {len(group)} datasets do not fit the "
                "memory together, and are trained one after another"
            )
        else:
            yield group
            return
    for part in group:
        require_memory([part])
        yield [part]


def _locked(member: Member, number: int) -> contextlib.AbstractContextManager[None]:
    """Runs that share a stage train it once: the others wait for the first."""
    run = member.training.stages[number]

    def say(holder: str) -> None:
        member.recorder.progress.say(
            f"{run.stage.name}: waits for {holder}, which trains it"
        )

    return locks.held(member.training.store.lock(run.key), math.inf, say)


def _prepared(member: Member, run: StageRun) -> Part | None:
    """A stage that has to be trained; None where its states came from the store.

    Where a stage that was done has to be trained again, so have the later ones.
    """
    training, recorder = member.training, member.recorder
    upstream = training.upstream(run)
    with settings.blamed(training.job, run.stage.name):
        data, stream = _data(training, run, upstream)
        like = template(run, data, upstream)
    under_way = run.first_step < member.resume <= run.last_step
    done = member.resume > run.last_step
    reuse = training.options.reuse_stages and not under_way
    if (done or reuse) and _take_from_store(member, run, like):
        if run is training.stages[-1]:
            recorder.evaluate(run.last_step)
        return None
    if done:
        recorder.cut_back(run.first_step)
        member.resume = 0
    step = member.resume - run.first_step if under_way else 0
    return Part(member, run, upstream, data, like, step, stream)


def _data(
    training: Training, run: StageRun, upstream: dict[str, Model]
) -> tuple[Pytree, streams.Stream | None]:
    """What the stage has of the data in memory, and the stream, if it reads one."""
    dataset, seeds = training.dataset, training.options.num_seeds
    if training.options.stream:
        stream = streams.stream(run.stage.view, dataset)
        return stream.data, stream
    if isinstance(dataset, StoredDataset):
        hosts.agree(lambda: memory.require_rows(run, dataset, seeds))
    return stage_data(run, dataset, upstream), None


def _take_from_store(member: Member, run: StageRun, like: Pytree) -> bool:
    """Fills in the stage's states, if the store has them whole."""
    training, say = member.training, member.recorder.progress.say
    store = training.store
    if not hosts.agree(lambda: store.has(run.key)):
        return False
    try:
        run.states = store.load(run.key, like)
    except UserError as error:
        say(f"{error} It is trained again.")
        store.discard(run.key)
        return False
    run.recall(store.meta(run.key))
    more = "; not profiled (--noreuse_stages)" if training.options.profile else ""
    say(f"{run.stage.name}: trained before, {run.key[:12]}{more}")
    return True
