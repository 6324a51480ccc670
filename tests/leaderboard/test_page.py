import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from offjax.errors import UserError
from offjax.leaderboard import page, reported, store, write_page

EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
VOID = {"meta", "link", "input", "br", "img", "wbr"}


class Outline(HTMLParser):
    """Tags, attributes and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("circle", "path", "rect"):
            assert self.open.pop() == tag
        elif self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def render(root, **options):
    return page.render(store.read([root]), reported.load(), **options)


def data_of(text):
    (found,) = re.findall(r'id="data">(.*?)</script>', text, re.S)
    return json.loads(found)


def test_page_is_well_formed_and_asks_for_nothing(tmp_path):
    for dataset in ("hopper-medium-v2", "walker2d-medium-v2"):
        for method in ("bc", "cfpi"):
            write_run(tmp_path, method, dataset, variants=("default", "k=5"))
    text = render(tmp_path)
    outline = Outline(text)
    assert outline.open == []
    for tag, attributes in outline.tags:
        assert tag not in ("img", "iframe", "object", "base")
        assert "src" not in attributes
        if tag == "link":
            assert attributes["href"] == "data:,"
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in text and "@import" not in text
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_everything_of_a_run_is_escaped(tmp_path):
    folder = write_run(tmp_path, "bc", variants=("v",))
    for name in ("config.json", "run.json"):
        content = json.loads((folder / name).read_text())
        content.update(
            method=EVIL, commit=EVIL, status=EVIL, versions={EVIL: EVIL}, extra=EVIL,
            score_source=EVIL,
        )  # fmt: skip
        (folder / name).write_text(json.dumps(content))
    scores = folder / "scores.csv"
    quoted = EVIL.replace(",", "")
    scores.write_text(scores.read_text().replace("\nbc,v,", f"\n{quoted},{quoted},"))
    text = render(tmp_path)
    assert EVIL not in text and "<img" not in text
    assert text.count("<script") == 2
    cell = data_of(text)["cells"][0]
    assert cell["method"] == EVIL and cell["variant"] == EVIL


def test_details_of_a_cell(tmp_path):
    scores = np.array([[1.0, 9.0, 2.0], [3.0, 4.0, np.nan]])
    write_run(tmp_path, seeds=(3, 7), scores=scores)
    data = data_of(render(tmp_path))
    (cell,) = data["cells"]
    assert [seed[:3] for seed in cell["seeds"]] == [[3, 2.0, 9.0], [7, None, 4.0]]
    assert cell["curves"] == [
        [[1000, 1.0], [2000, 9.0], [3000, 2.0]], [[1000, 3.0], [2000, 4.0]],
    ]  # fmt: skip
    facts = dict(data["runs"][0]["facts"])
    assert facts["seed-steps per second"] == "1234.5"
    assert facts["commit"].startswith("0123456789abcdef")
    assert "jax 0.10.2" in facts["versions"]
    assert json.loads(data["configs"][0])["stages"]["policy"]["config"]["lr"] == 3e-4


def test_equal_configurations_are_stored_once(tmp_path):
    for i in range(4):
        write_run(tmp_path, seeds=[i], run_id=f"r{i}")
    data = data_of(render(tmp_path))
    assert len(data["runs"]) == 4 and len(data["configs"]) == 1


def test_notes_and_errata_are_on_the_page(tmp_path):
    write_run(tmp_path, info={"status": "running"})
    write_run(tmp_path, "old", config={"schema": 99})
    text = render(tmp_path)
    assert "Unfinished runs" in text and "schema 99" in text
    assert "printed 710.1, its rows give 710.7" in text
    assert "images, from which no number could be recovered" in text


def test_nan_only_and_return_only_runs_have_a_page(tmp_path):
    write_run(tmp_path, "bc", scores=np.full((3, 2), np.nan))
    text = render(tmp_path)
    assert "no finite return" in text and "NaN" not in text.split('id="data"')[1]


def test_a_store_of_unusable_runs_has_a_page_that_says_so(tmp_path):
    folder = write_run(tmp_path)
    (folder / "run.json").write_text("{")
    text = render(tmp_path)
    assert "not valid JSON" in text and Outline(text).open == []


def test_live_page_reloads_itself(tmp_path):
    write_run(tmp_path)
    assert 'data-refresh="5"' in render(tmp_path, refresh=5)
    assert "data-refresh=" not in render(tmp_path)


def test_write_page(tmp_path):
    write_run(tmp_path)
    path = write_page(tmp_path)
    assert path == tmp_path / "leaderboard.html"
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert [p.name for p in tmp_path.iterdir() if "leaderboard" in p.name] == [
        path.name
    ]
    with pytest.raises(UserError, match=r"file\.txt"):
        (tmp_path / "file.txt").write_text("")
        write_page(tmp_path, tmp_path / "file.txt" / "page.html")
