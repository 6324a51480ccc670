"""MkDocs hook: adds the pages that are made from code and notebooks."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools import notebooks, reference

ROOT = Path(__file__).parents[1]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages of the methods in the navigation."""
    for part in config.nav or []:
        if "Reference" in part:
            part["Reference"].insert(1, {"Methods": [*reference.method_pages()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the reference and the notebooks."""
    for path, text in reference.pages().items():
        files.append(File.generated(config, path, content=text))
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        text, images = notebooks.page(notebook)
        files.append(
            File.generated(config, f"examples/{notebook.stem}.md", content=text)
        )
        for name, image in images.items():
            files.append(File.generated(config, f"examples/{name}", content=image))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Turns links to notebooks, which lie beside `docs/`, into links to their pages."""
    return re.sub(r"\]\(\.\./((?:\.\./)*examples/\w+)\.ipynb\)", r"](\1.md)", markdown)
