import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from offjax.leaderboard import charts
from offjax.leaderboard.charts import Point, Series, Style
from offjax.leaderboard.statistics import Estimate

STYLE = Style("m0", "a <b> & 'c'", 0)
NOTHING = np.full(3, np.nan)


def series(x, y, low=None, high=None):
    low, high = (np.full(len(x), np.nan) if v is None else v for v in (low, high))
    return Series(STYLE, *(np.array(v, float) for v in (x, y, low, high)))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (-3, 7, [-2, 0, 2, 4, 6]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert charts.nice_ticks(low, high) == expected


def test_short_numbers():
    shown = [charts.short(v) for v in (0, 0.25, 20_000, 1_500_000)]
    assert shown == ["0", "0.25", "20k", "1.5M"]
    shown = [charts.duration(v) for v in (45, 720, 12_600, 172_800)]
    assert shown == ["45s", "12m", "3.5h", "2d"]


def test_line_lies_where_its_values_are():
    svg = charts.lines([series([0, 10], [0, 1])], "t", "x", "y", (0.0, 1.0))
    ET.fromstring(svg)
    (path,) = re.findall(r'class="line" d="([^"]+)"', svg)
    left, right = charts.LEFT, charts.WIDTH - charts.RIGHT
    top, floor = charts.TOP, charts.HEIGHT - charts.BOTTOM
    assert path == f"M{left:.1f} {floor:.1f}L{right:.1f} {top:.1f}"


def test_band_only_where_it_is_known():
    svg = charts.lines(
        [series([0, 1, 2], [1, 2, 3], [0, np.nan, 2], [2, np.nan, 4])], "t", "x", "y"
    )
    (band,) = re.findall(r'class="band" d="([^"]+)"', svg)
    assert band.count(" ") == 4
    assert "nan" not in svg
    assert 'class="band"' not in charts.lines(
        [series([0, 1, 2], [1, 2, 3])], "t", "x", "y"
    )


@pytest.mark.parametrize(("x", "y"), [([5], [3]), ([0, 1], [2, 2]), ([3, 4], [1, 9])])
def test_degenerate_lines_are_drawn(x, y):
    svg = charts.lines([series(x, y)], "t", "x", "y")
    ET.fromstring(svg)
    assert "nan" not in svg and "inf" not in svg


def test_labels_are_escaped():
    rows = [(STYLE, Estimate(5, 1, 9)), (STYLE, Estimate(2))]
    made = [
        charts.interval_rows(rows, "<t>"),
        charts.lines([series([0, 1], [1, 2])], "<t>", "<x>", "<y>"),
        charts.scatter([Point(STYLE, 10, 3, "<p>")], "<t>", "<x>", "<y>"),
    ]
    for svg in made:
        ET.fromstring(svg)
        assert "<b>" not in svg and "<t>" not in svg and "<x>" not in svg
    assert made[0].count('class="bar"') == 1


def test_long_labels_keep_their_end():
    style = Style("m", "asp (preset=small,k=10)", 0)
    assert style.short == "asp (p…small,k=10)" and len(style.short) == 18
    assert Style("m", "asp", 12).classes == "s2 d1"
