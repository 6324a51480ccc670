"""`offjax benchmark`, in a checkout: `python -m experiments.benchmark`."""

from offjax.cli import benchmark
from offjax.cli.command import start

if __name__ == "__main__":
    start(benchmark)
