"""An executed notebook as a page of the site."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

Page = tuple[str, dict[str, bytes]]


def page(path: Path) -> Page:
    """Markdown of a notebook, and the images that it shows by their file names.

    Links of the notebook start in its folder, beside `docs/`; those of the page start
    within the site.
    """
    lines: list[str] = []
    images: dict[str, bytes] = {}
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            links = source.replace("](../docs/", "](../").replace(".ipynb)", ".md)")
            lines += [links, ""]
            continue
        lines += ["```python", source, "```", ""]
        for output in cell["outputs"]:
            lines += _output(output, path.stem, images)
    return "\n".join(lines), images


def code(path: Path) -> str:
    """The code of all cells, as one program."""
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def _output(output: dict[str, Any], stem: str, images: dict[str, bytes]) -> list[str]:
    """What a cell printed or showed; adds its picture to `images`."""
    if output["output_type"] == "stream":
        return ["```text", "".join(output["text"]).rstrip(), "```", ""]
    data = output.get("data", {})
    if "image/png" in data:
        name = f"{stem}_{len(images)}.png"
        images[name] = base64.b64decode(data["image/png"])
        return [f"![output]({name})", ""]
    if match := re.search(r'base64,([^"]+)">', "".join(data.get("text/html", ""))):
        name = f"{stem}_{len(images)}.gif"
        images[name] = base64.b64decode(match[1])
        return [f"![animation]({name})", ""]
    if "text/plain" in data:
        return ["```text", "".join(data["text/plain"]), "```", ""]
    return []
