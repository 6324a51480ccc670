"""Recorded data: one `Dataset` from any source, converted and sampled for training."""

from offjax.datasets.dataset import Card, Dataset
from offjax.datasets.load import collect_dataset, list_datasets, load_dataset

__all__ = ["Card", "Dataset", "collect_dataset", "list_datasets", "load_dataset"]
