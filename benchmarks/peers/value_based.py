"""BC, TD3+BC, IQL and CQL in plain PyTorch: yardsticks for speed.

python benchmarks/peers/value_based.py ALGORITHM UPDATES THREADS

Needs nothing but torch. One process is one seed; sizes and optimizers are those of
offjax's preset `paper` (256 rows, layers of 256, Adam), on random rows of HalfCheetah's
shape that stay on the device, a GPU where torch sees one. Loops as people write them:
eager, one batch after another. Steps are CORL's: IQL's policy and critics use V before
its step, where offjax (and IQL's authors) use it after, which is one more pass. After
ten updates of warm-up it waits for a line, and prints the device and the seconds of
UPDATES updates (timing.py). An update is one step of the critics; TD3+BC's policy takes
every second.
"""

from __future__ import annotations

import copy
import itertools
import math
import sys
from collections.abc import Callable

import torch
from timing import report
from torch import nn
from torch.nn import functional as F

ROWS, OBSERVATION, ACTION, BATCH = 100_000, 17, 6, 256
DISCOUNT, POLYAK = 0.99, 0.005
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Batch = tuple[torch.Tensor, ...]
Update = Callable[[Batch, int], None]


def mlp(inputs: int, outputs: int, layers: int = 2) -> nn.Module:
    """`layers` of 256 units with ReLU."""
    sizes = [inputs, *[256] * layers]
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(256, outputs)).to(DEVICE)


class Twin(nn.Module):
    """Two critics of observations and actions."""

    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        both = [mlp(OBSERVATION + ACTION, 1, layers) for _ in range(2)]
        self.critics = nn.ModuleList(both)

    def forward(self, observations: torch.Tensor, actions: torch.Tensor):
        """Values [B] of both."""
        x = torch.cat([observations, actions], dim=-1)
        return [critic(x).squeeze(-1) for critic in self.critics]


def step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One step down the gradient."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module) -> None:
    """Moves target weights by the share `POLYAK`."""
    for t, s in zip(target.parameters(), source.parameters(), strict=True):
        t.lerp_(s, POLYAK)


def bc() -> Update:
    """Cloning with a Gaussian, its deviation by observation."""
    policy = mlp(OBSERVATION, 2 * ACTION)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)

    def update(batch: Batch, number: int) -> None:
        del number
        observations, actions, *_ = batch
        mean, log_std = policy(observations).chunk(2, dim=-1)
        log_std = log_std.clamp(-5, 2)
        z = (actions - mean) / log_std.exp()
        step(optimizer, (0.5 * z**2 + log_std).sum(-1).mean())

    return update


def td3_bc() -> Update:
    """TD3+BC; the policy and the targets move every second time."""
    actor, critic = mlp(OBSERVATION, ACTION), Twin()
    target_actor, target_critic = copy.deepcopy(actor), copy.deepcopy(critic)
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=3e-4)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=3e-4)

    def update(batch: Batch, number: int) -> None:
        observations, actions, rewards, next_observations, masks = batch
        with torch.no_grad():
            noise = (0.2 * torch.randn_like(actions)).clamp(-0.5, 0.5)
            following = torch.tanh(target_actor(next_observations)) + noise
            following = following.clamp(-1, 1)
            next_q = torch.minimum(*target_critic(next_observations, following))
            targets = rewards + DISCOUNT * masks * next_q
        q1, q2 = critic(observations, actions)
        step(critic_optimizer, F.mse_loss(q1, targets) + F.mse_loss(q2, targets))
        if number % 2:
            proposed = torch.tanh(actor(observations))
            q = critic(observations, proposed)[0]
            weight = 2.5 / q.abs().mean().detach()
            cloning = F.mse_loss(proposed, actions)
            step(actor_optimizer, -weight * q.mean() + cloning)
            follow(target_actor, actor)
            follow(target_critic, critic)

    return update


def iql() -> Update:
    """IQL: V by expectiles, the policy by weighted likelihood, twin critics."""
    actor, critic, value = mlp(OBSERVATION, ACTION), Twin(), mlp(OBSERVATION, 1)
    log_std = nn.Parameter(torch.zeros(ACTION, device=DEVICE))
    target_critic = copy.deepcopy(critic)
    optimizers = [
        torch.optim.Adam(parameters, lr=3e-4)
        for parameters in (
            value.parameters(),
            [*actor.parameters(), log_std],
            critic.parameters(),
        )
    ]

    def update(batch: Batch, number: int) -> None:
        del number
        observations, actions, rewards, next_observations, masks = batch
        with torch.no_grad():
            q = torch.minimum(*target_critic(observations, actions))
            next_v = value(next_observations).squeeze(-1)
        error = q - value(observations).squeeze(-1)
        step(optimizers[0], (torch.abs(0.7 - (error < 0).float()) * error**2).mean())
        weight = (3.0 * error.detach()).exp().clamp(max=100)
        scale = log_std.clamp(-5, 2)
        z = (actions - torch.tanh(actor(observations))) / scale.exp()
        step(optimizers[1], (weight * (0.5 * z**2 + scale).sum(-1)).mean())
        targets = rewards + DISCOUNT * masks * next_v
        q1, q2 = critic(observations, actions)
        step(optimizers[2], F.mse_loss(q1, targets) + F.mse_loss(q2, targets))
        follow(target_critic, critic)

    return update


def squashed(policy: nn.Module, observations: torch.Tensor):
    """Actions, tanh of a Gaussian, and their log densities [...]."""
    mean, log_std = policy(observations).chunk(2, dim=-1)
    log_std = log_std.clamp(-20, 2)
    z = torch.randn_like(mean)
    before = mean + log_std.exp() * z
    log_prob = -0.5 * (z**2 + 2 * log_std + math.log(2 * math.pi))
    bend = 2 * (math.log(2) - before - F.softplus(-2 * before))
    return torch.tanh(before), (log_prob - bend).sum(-1)


def cql() -> Update:
    """CQL with ten random, present and following actions in the penalty."""
    policy, critic, proposals = mlp(OBSERVATION, 2 * ACTION, 3), Twin(3), 10
    target_critic = copy.deepcopy(critic)
    log_temperature = nn.Parameter(torch.zeros((), device=DEVICE))
    policy_optimizer = torch.optim.Adam(policy.parameters(), lr=3e-5)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=3e-4)
    temperature_optimizer = torch.optim.Adam([log_temperature], lr=3e-5)

    def penalty(batch: Batch, values: list[torch.Tensor]) -> torch.Tensor:
        observations, _, _, next_observations, _ = batch
        repeated = observations[:, None].expand(-1, proposals, -1)
        with torch.no_grad():
            uniform = torch.rand(BATCH, proposals, ACTION, device=DEVICE) * 2 - 1
            following = next_observations[:, None].expand(-1, proposals, -1)
            there, log_there = squashed(policy, following)
            here, log_here = squashed(policy, repeated)
            log_uniform = torch.full_like(log_here, -ACTION * math.log(2))
            proposed = torch.cat([uniform, there, here], dim=1)
            logs = torch.cat([log_uniform, log_there, log_here], dim=1)
        spread = observations[:, None].expand(-1, 3 * proposals, -1)
        pairs = zip(critic(spread, proposed), values, strict=True)
        return sum(((q - logs).logsumexp(-1) - v).mean() for q, v in pairs)

    def update(batch: Batch, number: int) -> None:
        del number
        observations, actions, rewards, next_observations, masks = batch
        proposed, log_prob = squashed(policy, observations)
        q = torch.minimum(*critic(observations, proposed))
        temperature = log_temperature.exp().detach()
        policy_loss = (temperature * log_prob - q).mean()
        entropy_loss = -log_temperature * (log_prob.detach().mean() - ACTION)
        with torch.no_grad():
            following, _ = squashed(policy, next_observations)
            next_q = torch.minimum(*target_critic(next_observations, following))
            targets = rewards + DISCOUNT * masks * next_q
        values = critic(observations, actions)
        bellman = sum(F.mse_loss(value, targets) for value in values)
        critic_loss = bellman + 10 * penalty(batch, values)
        step(temperature_optimizer, entropy_loss)
        step(policy_optimizer, policy_loss)
        step(critic_optimizer, critic_loss)
        follow(target_critic, critic)

    return update


ALGORITHMS = {"bc": bc, "td3_bc": td3_bc, "iql": iql, "cql": cql}


def main(name: str, updates: int, threads: int) -> None:
    """Times `updates` updates."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    data = (
        torch.randn(ROWS, OBSERVATION, device=DEVICE),
        torch.rand(ROWS, ACTION, device=DEVICE) * 2 - 1,
        torch.randn(ROWS, device=DEVICE),
        torch.randn(ROWS, OBSERVATION, device=DEVICE),
        torch.ones(ROWS, device=DEVICE),
    )
    update = ALGORITHMS[name]()

    def loop(count: int) -> None:
        for number in range(count):
            rows = torch.randint(ROWS, (BATCH,), device=DEVICE)
            update(tuple(x[rows] for x in data), number)
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    loop(10)
    report(lambda: loop(updates), DEVICE)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
