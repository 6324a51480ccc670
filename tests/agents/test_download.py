"""Archives at URLs and on a stand-in of the hub."""

import functools
import hashlib
import http.server
import shutil
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

import offjax
from offjax.agents import archive, hub, load
from offjax.errors import UserError
from tests.agents.test_load import KINDS


@pytest.fixture
def file(archived, budget_dataset, tmp_path):
    """An archive."""
    _, path = archived("td3_bc", budget_dataset, KINDS["td3_bc"])
    return path.rename(tmp_path / archive.FILE)


@pytest.fixture
def site(tmp_path, file, monkeypatch):
    """A folder that is served at `site.url`, with the archive in it."""
    monkeypatch.setenv("OFFJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OFFJAX_OFFLINE")
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copy(file, folder)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    asked = []
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield types.SimpleNamespace(folder=folder, url=url, asked=asked)
        server.shutdown()


def same(place, file, **options):
    observation = np.ones(archive.read(file).dataset.spec.observation_dim)
    mine = offjax.load_agent(place, **options).act(observation)
    np.testing.assert_array_equal(mine, offjax.load_agent(file).act(observation))


def test_a_url_is_downloaded_once(site, file):
    lines = []
    same(f"{site.url}/{archive.FILE}", file, progress=lines.append)
    same(site.url, file)  # the URL of its folder
    assert site.asked == [f"/{archive.FILE}"]
    assert lines[0].startswith("downloading http://127")


def test_a_checksum_refuses_other_files(site, file):
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    same(site.url, file, sha256=right)
    other = site.folder / archive.FILE
    other.write_bytes(other.read_bytes() + b" ")
    wrong = hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"has the SHA-256 {right}, not 00ff"):
        offjax.load_agent(file, sha256="00ff")
    assert load.find(site.url).read_bytes() == file.read_bytes()
    assert load.find(site.url, wrong).read_bytes() == other.read_bytes()
    with pytest.raises(UserError, match="not 00ff: it is another archive"):
        offjax.load_agent(site.url, sha256="00ff")


def test_downloads_that_fail_say_why(site, monkeypatch):
    with pytest.raises(UserError, match="HTTP 404"):
        offjax.load_agent(f"{site.url}/elsewhere.npz")
    (site.folder / archive.FILE).write_text("<html>log in</html>")
    with pytest.raises(UserError, match="not such a file"):
        offjax.load_agent(site.url)
    monkeypatch.setenv("OFFJAX_OFFLINE", "1")
    with pytest.raises(UserError, match="OFFJAX_OFFLINE is set"):
        offjax.load_agent(site.url)


class Hub(types.ModuleType):
    """Stand-in of huggingface_hub: repositories are folders below `root`."""

    def __init__(self, root):
        super().__init__("huggingface_hub")
        self.root, self.asked = root, []

        class HfApi:
            def create_repo(self, repo_id, *, exist_ok=False):
                (root / repo_id).mkdir(parents=True, exist_ok=exist_ok)

            def upload_file(self, *, path_or_fileobj, path_in_repo, repo_id):
                shutil.copy(path_or_fileobj, root / repo_id / path_in_repo)

            def upload_folder(self, *, repo_id, folder_path):
                shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)

        self.HfApi = HfApi

    def hf_hub_download(self, repo_id, filename, *, revision=None):
        self.asked.append((repo_id, filename, revision))
        path = self.root / repo_id / filename
        if not path.is_file():
            raise RuntimeError("404 Client Error: Entry Not Found")
        return str(path)


@pytest.fixture
def library(tmp_path, monkeypatch):
    found = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", found)
    return found


def test_an_archive_goes_to_the_hub_and_comes_back(library, file):
    place = hub.upload(file, "me/agent")
    assert place == "hf://me/agent"
    same(place, file)
    same("hf://me/agent@v1", file)
    assert library.asked == [
        ("me/agent", archive.FILE, None), ("me/agent", archive.FILE, "v1"),
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"hf://me/agent/a/b\.npz \(RuntimeError: 404"):
        offjax.load_agent("hf://me/agent/a/b.npz")
    assert library.asked[-1] == ("me/agent", "a/b.npz", None)


def test_an_exported_run_goes_to_the_hub_with_all_its_files(library, file, tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    shutil.copy(file, folder)
    (folder / "run.json").write_text("{}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "checksums.json").write_text(f'{{"{archive.FILE}": "{digest}"}}')
    same(hub.upload(folder, "me/run"), file)
    assert (library.root / "me/run/run.json").exists()
    (folder / "checksums.json").write_text(f'{{"{archive.FILE}": "00"}}')
    with pytest.raises(UserError, match=r"differs from checksums\.json"):
        offjax.load_agent(folder)


def test_the_hub_needs_its_package_and_a_repository(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for ask in (lambda: hub.upload(file, "me/x"), lambda: hub.download("hf://me/x")):
        with pytest.raises(UserError, match=r"pip install 'offjax\[hub\]'"):
            ask()
    with pytest.raises(UserError, match="names no repository"):
        hub.download("hf://me")
    with pytest.raises(UserError, match="There is no archive"):
        hub.upload(Path("nowhere"), "me/x")
