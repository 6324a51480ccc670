"""One update of Decision Transformer in plain PyTorch: a yardstick for speed.

python benchmarks/peers/decision_transformer.py UPDATES THREADS

Needs nothing but torch. Same sizes and work as benchmarks.sequence: windows of random
episodes, three embeddings and one of time, three pre-norm blocks of width 128 with one
head, dropout 0.1 everywhere and on the attention's weights, squared error of actions,
clipping by global norm, AdamW, on a GPU where torch sees one. After three updates of
warm-up it waits for a line, and prints the device and the seconds of UPDATES updates
(timing.py).
"""

from __future__ import annotations

import sys

import torch
from timing import report
from torch import nn
from torch.nn import functional as F

BATCH, LENGTH, LAYERS, WIDTH, DROPOUT = 64, 20, 3, 128, 0.1
EPISODES, STEPS, OBSERVATION, ACTION = 100, 300, 4, 2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Block(nn.Module):
    """Pre-norm attention and perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.ReLU(),
            nn.Linear(4 * WIDTH, WIDTH),
            nn.Dropout(DROPOUT),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, width] → the same."""
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(
            q, k, v, dropout_p=DROPOUT, is_causal=True
        )
        x = x + F.dropout(self.out(attended), DROPOUT)
        return x + self.mlp(self.norms[1](x))


class DecisionTransformer(nn.Module):
    """Actions from (return, observation, action) tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.returns = nn.Linear(1, WIDTH)
        self.observations = nn.Linear(OBSERVATION, WIDTH)
        self.actions = nn.Linear(ACTION, WIDTH)
        self.time = nn.Embedding(1000, WIDTH)
        self.norm, self.final = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.head = nn.Linear(WIDTH, ACTION)

    def forward(self, returns, observations, actions, timesteps) -> torch.Tensor:
        """Actions [B, K, A] at the observations' tokens."""
        time = self.time(timesteps)
        tokens = (
            self.returns(returns[..., None]) + time,
            self.observations(observations) + time,
            self.actions(actions) + time,
        )
        x = torch.stack(tokens, dim=2).reshape(BATCH, 3 * LENGTH, WIDTH)
        x = self.final(self.blocks(F.dropout(self.norm(x), DROPOUT)))
        return torch.tanh(self.head(x.reshape(BATCH, LENGTH, 3, WIDTH)[:, :, 1]))


def main(updates: int, threads: int) -> None:
    """Times `updates` updates after three of warm-up."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    observations = torch.randn(EPISODES, STEPS, OBSERVATION, device=DEVICE)
    actions = torch.rand(EPISODES, STEPS, ACTION, device=DEVICE) * 2 - 1
    returns = torch.rand(EPISODES, STEPS, device=DEVICE)
    model = DecisionTransformer().to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)
    window = torch.arange(LENGTH, device=DEVICE)

    def update() -> None:
        episode = torch.randint(EPISODES, (BATCH, 1), device=DEVICE)
        steps = torch.randint(STEPS - LENGTH, (BATCH, 1), device=DEVICE) + window
        wanted = actions[episode, steps]
        found = model(
            returns[episode, steps], observations[episode, steps], wanted, steps
        )
        loss = ((found - wanted) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()

    def loop(count: int) -> None:
        for _ in range(count):
            update()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    loop(3)
    report(lambda: loop(updates), DEVICE)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
