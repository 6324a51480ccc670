"""Full episodes of slots in one environment: of one run, or of several.

JAX environments are rolled out on device, all others stepped on the host under one
batched policy. Where training runs on an accelerator, a policy that is cheap enough
acts on the host's cores, and the accelerator trains on meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from offjax import envs
from offjax.devices import hosts
from offjax.devices.layout import Layout, Program
from offjax.evaluation import environments, host
from offjax.evaluation.batched import BatchedAgent
from offjax.evaluation.rollout import Agent
from offjax.runner import programs
from offjax.runner.options import Options
from offjax.runner.stages import layout_of
from offjax.types import EnvSpec, Params, Pytree

if TYPE_CHECKING:
    from offjax.envs.batched import BatchedEnv

HOST_FLOPS = 2e6
"""Operations per action up to which a policy acts on the host's cores: about what a
MuJoCo step costs there."""


class Players(NamedTuple):
    """Slots that act.

    Attributes:
      seeds: [S] of each slot.
      params: leaves NumPy [S, …].
      run_slots: slots of the run that a slot is from.
    """

    seeds: tuple[int, ...]
    params: Params
    run_slots: int

    @classmethod
    def of(cls, each: Sequence[Players]) -> Players:
        """The slots of several runs, one after another."""
        if len(each) == 1:
            return each[0]
        params = jax.tree.map(lambda *xs: np.concatenate(xs), *(p.params for p in each))
        seeds = tuple(seed for players in each for seed in players.seeds)
        return cls(seeds, params, each[0].run_slots)

    @property
    def kind(self) -> Any:
        """Equal for slots that can be put together, if they act alike."""
        leaves, structure = jax.tree.flatten(self.params)
        return structure, self.run_slots, [np.shape(leaf)[1:] for leaf in leaves]

    def places(self, episodes: int) -> int:
        """Of each slot on the host: those of its own run, whoever else plays."""
        return host.num_places(self.run_slots, episodes)


class Rollouts:
    """Compiled programs and environments, kept from one evaluation to the next."""

    def __init__(self, agent: Agent, spec: EnvSpec, options: Options) -> None:
        """Of how the slots act, in an environment."""
        self.agent, self.spec, self._options = agent, spec, options
        self._programs: dict[tuple[int, int], Program] = {}
        self._places: dict[tuple[int, int], tuple[BatchedAgent, BatchedEnv]] = {}

    @property
    def programs(self) -> list[Program]:
        """Those that have been or may be compiled."""
        acting = [p for agent, _ in self._places.values() for p in agent.programs]
        return [*self._programs.values(), *acting]

    def same(self, other: Rollouts) -> bool:
        """Whether the other's slots act alike, in the same environment.

        Their parameters may have other shapes: see `Players.kind`.
        """
        mine, its = self.agent, other.agent
        return (
            _environment(self.spec) == _environment(other.spec)
            and mine.actor == its.actor
            and _operator(mine) == _operator(its)
        )

    def run(self, players: Players, episodes: int, eval_seed: int) -> host.Episodes:
        """Full episodes of all slots; `clipped` is None where they are on device."""
        if not environments.on_device(self.spec):
            return self._on_host(players, episodes, eval_seed)
        layout, program, inputs = self._device_program(players, episodes)
        shared = layout.replicate({"eval_seed": np.uint32(eval_seed)})
        returns, lengths = layout.gather(program(layout.shard(inputs), shared))
        return host.Episodes(returns, lengths, None)

    def prepare(self, players: Players) -> None:
        """Compiles the evaluation on device, where there is one, before it is due.

        The values of the parameters are not read. With several hosts JAX compiles for
        arrays only, not for shapes: nothing is done.
        """
        if not environments.on_device(self.spec) or hosts.count() > 1:
            return
        episodes = self._options.eval_episodes
        layout, program, inputs = self._device_program(players, episodes)

        def like(x: Any) -> jax.ShapeDtypeStruct:
            shape = (len(layout.devices), layout.per_device, *np.shape(x)[1:])
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=layout.sharding)

        shared = layout.replicate({"eval_seed": np.uint32(0)})
        program.compile(jax.tree.map(like, inputs), shared)

    def _device_program(
        self, players: Players, episodes: int
    ) -> tuple[Layout, Program, Pytree]:
        """The program of that many episodes on device, where it runs, its inputs."""
        count = len(players.seeds)
        layout = layout_of(count, self._options)
        if (count, episodes) not in self._programs:
            env = envs.make(self.spec)
            self._programs[count, episodes] = programs.evaluation_program(
                self.agent, env, self.spec, episodes, layout
            )
        seeds = np.asarray(players.seeds, np.uint32)
        inputs = {"params": players.params, "seed": seeds}
        return layout, self._programs[count, episodes], inputs

    def _on_host(
        self, players: Players, episodes: int, eval_seed: int
    ) -> host.Episodes:
        from offjax.envs.batched import make_batched

        spec, seeds = self.spec, players.seeds
        key = len(seeds), players.places(episodes)
        if key not in self._places:
            layout = self.acting_layout(players)
            agent = BatchedAgent(self.agent, spec, key[1], layout)
            self._places[key] = agent, make_batched(spec, key[0] * key[1])
        agent, env = self._places[key]
        agent.load(players.params)
        return host.evaluate(agent, env, spec.horizon, seeds, episodes, eval_seed)

    def acting_layout(self, players: Players) -> Layout:
        """Where a policy acts for environments on the host: see the module."""
        num_slots = len(players.seeds)
        chosen = layout_of(num_slots, self._options)
        if chosen.devices[0].platform == "cpu":
            return chosen
        try:
            cores = tuple(jax.local_devices(backend="cpu"))
        except RuntimeError:  # JAX was told to leave the CPU alone
            return chosen
        if host.flops_per_action(self.agent, players.params, self.spec) > HOST_FLOPS:
            return chosen
        lanes = min(len(cores), num_slots)
        return Layout("map", cores[: max(2, lanes)], lanes, num_slots)


def _operator(agent: Agent) -> tuple[Any, ...]:
    """What makes an action of a distribution; without it no critic is read."""
    if agent.improve is None:
        return ()
    return agent.improve.operator, agent.critic


def _environment(spec: EnvSpec) -> tuple[Any, ...]:
    """All that an episode depends on; scores are computed apart."""
    return (
        spec.id, spec.kwargs, spec.observation_dim, spec.action_low, spec.action_high,
        spec.horizon,
    )  # fmt: skip
