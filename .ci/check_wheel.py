"""Checks what a wheel holds: one package, its data files, its command, no tests."""

import sys
import zipfile

(path,) = sys.argv[1:]
with zipfile.ZipFile(path) as wheel:
    names = wheel.namelist()
    (points,) = (name for name in names if name.endswith("entry_points.txt"))
    commands = wheel.read(points).decode()
tops = {name.split("/")[0] for name in names}
packages = {top for top in tops if not top.endswith(".dist-info")}
assert packages == {"offjax"}, f"{path} installs {sorted(packages)}"
assert "offjax = offjax.cli.main:main" in commands, commands
for needed in ("offjax/cli/main.py", "offjax/datasets/d4rl.csv"):
    assert needed in names, f"{path} lacks {needed}"
strange = [n for n in names if "__pycache__" in n or "/test_" in n]
assert not strange, strange
print(f"{path}: {len(names)} files")
