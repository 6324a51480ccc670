"""`offjax leaderboard`, in a checkout: `python -m experiments.leaderboard`."""

from offjax.cli import leaderboard
from offjax.cli.command import start

if __name__ == "__main__":
    start(leaderboard)
