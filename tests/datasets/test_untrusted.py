"""Files of others: read as NumPy reads them, or refused."""

import pickle
import zipfile

import numpy as np
import pytest

from offjax.datasets import untrusted
from offjax.errors import UserError


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_numpys(tmp_path, save):
    arrays = {
        "a": np.arange(12.0).reshape(3, 4),
        "b": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "c": np.array([True, False]),
        "d": np.zeros((0, 3), np.float32),
    }
    save(tmp_path / "x.npz", **arrays)
    found = untrusted.read_npz(tmp_path / "x.npz", ("a", "b", "c", "d"), "The file")
    for key, value in arrays.items():
        np.testing.assert_array_equal(found[key], value)
        assert found[key].dtype == value.dtype


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    """Reading it would ask for 80 TB first."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", content + b"\0" * 80)
    with pytest.raises(UserError, match="shorter than its shape"):
        untrusted.read_npz(tmp_path / "x.npz", ("a",), "The file")


def test_missing_arrays_are_named(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(2))
    with pytest.raises(UserError, match=r"no array b, c; it holds a\."):
        untrusted.read_npz(tmp_path / "x.npz", ("a", "b", "c"), "The file")


@pytest.mark.parametrize("protocol", range(5))
def test_data_pickles_of_any_protocol(tmp_path, protocol):
    path = tmp_path / "data.npy"
    content = {
        "emb": np.arange(6, dtype=np.float32).reshape(2, 1, 3),
        "number": np.float64(3),
        "indx": [(np.int64(1), 2)],
        "text": "ä",
    }
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|O", "fortran_order": False, "shape": ()}
        )
        pickle.dump(np.array(content, object), stream, protocol=protocol)
    found = untrusted.read_pickle(path)
    np.testing.assert_array_equal(found.pop("emb"), content.pop("emb"))
    assert found == content


def test_no_pickle(tmp_path):
    np.save(tmp_path / "numbers.npy", np.zeros(3))
    with pytest.raises(UserError, match="holds no object"):
        untrusted.read_pickle(tmp_path / "numbers.npy")
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(UserError, match=r"magic string.*Nothing in it was run"):
        untrusted.read_pickle(tmp_path / "text.npy")
    with pytest.raises(UserError, match="There is no"):
        untrusted.read_pickle(tmp_path / "none.npy")
