"""Downloads against a server on this machine that misbehaves on demand."""

import concurrent.futures
import http.server
import multiprocessing
import resource
import shutil
import signal
import threading
import time
from collections import namedtuple

import numpy as np
import pytest

from offjax.catalog.load import load_dataset
from offjax.datasets import download, legacy
from offjax.errors import UserError

CONTENT = b"\x89HDF\r\n\x1a\n" + np.random.default_rng(0).bytes(300_000)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; `server.script` holds what to do with each request in turn."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, dict(self.headers)))
        action = server.script.pop(0) if server.script else "serve"
        if isinstance(action, int):
            self.send_error(action)
            return
        asked = self.headers.get("Range")
        start = 0
        current = self.headers["If-Range"] == server.tag
        if asked and current and action != "ignore range":
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        body = b"<html>log in</html>" if action == "page" else CONTENT[start:]
        self.send_response(206 if start else 200)
        claimed = len(body) + (1000 if action == "wrong length" else 0)
        if action != "no length":
            self.send_header("Content-Length", str(claimed))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/*")
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        if action == "cut":
            body = body[: len(body) // 3]
        if action == "slow":
            time.sleep(0.3)
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "BACK_OFF", 0.01)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.script, server.requests, server.tag = [], [], '"one"'
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def fetch(server, folder, *, prefixes=None, progress=None):
    prefixes = [server.url] if prefixes is None else prefixes
    return download.fetch("a/x.h5", folder / "x.h5", prefixes, b"\x89HDF", progress)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(server, tmp_path):
    lines = []
    target = fetch(server, tmp_path / "new", progress=lines.append)
    assert target.read_bytes() == CONTENT
    assert fetch(server, tmp_path / "new") == target
    assert [path for path, _ in server.requests] == ["/a/x.h5"]
    assert any(f"{server.url}/a/x.h5" in line for line in lines)
    assert names(tmp_path / "new") == ["x.h5"]


def test_a_cut_connection_is_resumed(server, tmp_path):
    server.script = ["cut", "cut", "serve"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    third = len(CONTENT) // 3
    assert server.requests[1][1]["Range"] == f"bytes={third}-"
    assert server.requests[1][1]["If-Range"] == '"one"'
    assert len(server.requests) == 3 and names(tmp_path) == ["x.h5"]


def test_a_later_process_resumes(server, tmp_path):
    server.script = ["cut", 500, 500, 500, 500]
    with pytest.raises(UserError, match="HTTP 500"):
        fetch(server, tmp_path)
    assert not (tmp_path / "x.h5").exists()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1]["Range"].startswith("bytes=")


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_a_part_of_unknown_version_is_begun_anew(server, tmp_path, tag):
    server.tag, server.script = tag, ["cut", "serve"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert all("Range" not in headers for _, headers in server.requests)


def test_a_file_that_changed_is_begun_anew(server, tmp_path):
    server.script = ["cut", 404]
    with pytest.raises(UserError):
        fetch(server, tmp_path)
    part = tmp_path / ".x.h5.part"
    part.write_bytes(b"old" + part.read_bytes()[3:])
    server.tag = '"two"'
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_server_that_ignores_ranges(server, tmp_path):
    server.script = ["cut", "ignore range"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_without_a_length(server, tmp_path):
    server.script = ["no length"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("script", "requests", "words"),
    [
        ([404], 1, "HTTP 404"),
        ([403], 1, "HTTP 403"),
        ([500] * 9, download.ATTEMPTS, "HTTP 500"),
        (["page"], 1, "not such a file"),
    ],
)
def test_what_a_place_answers_is_told(server, tmp_path, script, requests, words):
    server.script = script
    with pytest.raises(UserError) as error:
        fetch(server, tmp_path)
    assert words in str(error.value) and f"{server.url}/a/x.h5" in str(error.value)
    assert str(tmp_path / "x.h5") in str(error.value)
    assert len(server.requests) == requests
    assert not (tmp_path / "x.h5").exists()


def test_a_wrong_length_is_no_file(server, tmp_path):
    server.tag, server.script = "", ["wrong length"] * 9
    with pytest.raises(UserError, match=r"300,008 of 301,008 bytes"):
        fetch(server, tmp_path)
    assert not (tmp_path / "x.h5").exists()


def test_passing_errors_are_retried(server, tmp_path):
    server.script = [503, 429, "serve"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_the_next_place_is_tried(server, tmp_path):
    server.script = [404, "serve"]
    prefixes = [f"{server.url}/one", f"{server.url}/two"]
    assert fetch(server, tmp_path, prefixes=prefixes).read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/one/a/x.h5", "/two/a/x.h5"]


def test_nobody_there_is_told(tmp_path):
    prefixes = ["http://127.0.0.1:9", "http://no-such-host.invalid"]
    with pytest.raises(UserError) as error:
        download.fetch("x.h5", tmp_path / "x.h5", prefixes, b"")
    assert all(prefix in str(error.value) for prefix in prefixes)


def test_a_small_disk_is_noticed_before(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")(1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="MB free"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []


def _fetch_limited(url, folder, queue):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        download.fetch("x.h5", folder / "x.h5", [url], b"\x89HDF")
    except UserError as error:
        queue.put(str(error))


def test_a_full_disk_leaves_nothing(server, tmp_path):
    """A process that may write no more than 100 kB of the 300."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_fetch_limited, args=(server.url, tmp_path, queue))
    worker.start()
    assert "ran full" in queue.get(timeout=60)
    worker.join()
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        fetch(server, tmp_path / "file")


def test_two_at_once_fetch_it_once(server, tmp_path):
    """Threads: the lock belongs to an open file, not to a process."""
    server.script, lines = ["slow"], []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(fetch, server, tmp_path, progress=lines.append)
    assert sum("waiting for another process" in line for line in lines) == 1
    assert len(server.requests) == 1
    assert (tmp_path / "x.h5").read_bytes() == CONTENT and names(tmp_path) == ["x.h5"]


def test_places_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("OFFJAX_MIRRORS", raising=False)
    assert download.places(download.D4RL) == [download.D4RL]
    monkeypatch.setenv("OFFJAX_MIRRORS", "http://a/x/, https://b")
    assert download.places("http://c") == ["http://a/x", "https://b", "http://c"]
    file = tmp_path / "mirrors.txt"
    file.write_text("# ours\nhttp://a\n\nhttps://b/\n")
    monkeypatch.setenv("OFFJAX_MIRRORS", str(file))
    assert download.places("http://c") == ["http://a", "https://b", "http://c"]


@pytest.mark.parametrize("text", ["file:///etc", "ftp://x", "/no/such/file"])
def test_bad_places_are_named(text, monkeypatch):
    monkeypatch.setenv("OFFJAX_MIRRORS", text)
    with pytest.raises(UserError, match="OFFJAX_MIRRORS"):
        download.places("http://c")


def test_a_d4rl_file_is_downloaded_by_its_id(server, tmp_path, monkeypatch):
    monkeypatch.delenv("OFFJAX_OFFLINE")
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setattr(download, "D4RL", server.url)
    with pytest.raises(UserError, match="damaged or incomplete"):
        load_dataset("hopper-medium-v2")  # random bytes behind the signature
    assert server.requests[0][0] == "/gym_mujoco_v2/hopper_medium-v2.hdf5"
    assert legacy.find("hopper-medium-v2") == tmp_path / "hopper_medium-v2.hdf5"


def test_an_unreachable_file_is_explained(server, tmp_path, monkeypatch):
    monkeypatch.delenv("OFFJAX_OFFLINE")
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))
    monkeypatch.setattr(download, "OGBENCH", server.url)
    server.script = [404]
    with pytest.raises(UserError) as error:
        load_dataset("scene-play-v0")
    for words in ("scene-play-v0.npz", str(tmp_path), "--data_dir", server.url):
        assert words in str(error.value)
