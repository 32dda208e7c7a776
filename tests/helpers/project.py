"""The checkout: its folder, its source files, and what it says of itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = sorted([*(ROOT / "lit_mtrl").rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")])
PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
