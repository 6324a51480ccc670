"""Datasets: files of several formats become one `Dataset`; views are what is read."""

from offjax.datasets.dataset import Dataset

__all__ = ["Dataset"]
