"""The command around `offjax.runner.reevaluate`: its flags and its errors."""

import pytest


@pytest.mark.parametrize(
    "flags, words",
    [
        ((), "--run is missing"),
        (("--run=nowhere",), "nowhere"),
        (("--run=nowhere", "--grid=log_tau"), "--grid=log_tau"),
    ],
)
def test_bad_input_is_a_paragraph_and_exit_code_2(experiment, flags, words):
    done = experiment("evaluate", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert "Traceback" not in done.stderr
