"""Budget Allocation's generated episodes as a dataset."""

from offjax.datasets.dataset import Dataset


def dataset_of(data, spec, id):
    """Of `offjax.behavior.budget.generate`'s arrays [episodes, horizon (+ 1), …]."""
    rows = data["actions"].shape[0] * spec.horizon
    return Dataset.from_arrays(
        data["observations"][:, :-1].reshape(rows, -1),
        data["actions"].reshape(rows, -1),
        data["rewards"].reshape(-1),
        data["terminals"].reshape(-1),
        data["timeouts"].reshape(-1),
        data["observations"][:, 1:].reshape(rows, -1),
        spec=spec,
        id=id,
    )
