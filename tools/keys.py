"""Write docs/configuration.md: every key with its default, what it takes, and what its file says of it.

python -m tools.keys
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lit_mtrl.config.keys import KEYS, kind_of

ROOT = Path(__file__).parents[1]
GROUPS = (
    *("benchmark", "env", "algo", "network", "actor", "critic", "weighting", "collector", "replay", "engine"),
    *("trainer", "eval", "callbacks", "logger"),
)
GLOBAL = "# @package _global_\n"
"""First line of a file whose keys stand at the top, not below its group."""
HEAD = """# Every key

Written by `python -m tools.keys` from `conf/` and `lit_mtrl/config/keys.py`, which also checks values; `fit --help`
prints the kinds and ranges. Nothing here is changed by hand. Ranges are what can be computed with; what depends on
other keys is checked where they meet, and named when it does not fit.

`actor.network.*` and `critic.network.*` take the keys of `network`. A key of your own class has the type that its
constructor declares, or of its default.
"""


def page() -> str:
    """The text of the page."""
    lines = [HEAD, "## Top level\n", *_table(_read(ROOT / "conf" / "config.yaml", ""))]
    for group in GROUPS:
        prefix = f"{group}.<objective>" if group == "weighting" else group
        for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
            rows = list(_read(path, prefix))
            lines += [f"\n## `{group}={path.stem}`\n", f"{_title(path)}\n", *(_table(rows) if rows else [])]
    return "\n".join(lines).rstrip() + "\n"


def _table(rows: Iterator[tuple[str, str, str]] | list[tuple[str, str, str]]) -> list[str]:
    out = ["| key | default | takes | |", "|---|---|---|---|"]
    for key, default, comment in rows:
        kind = kind_of(key.replace("<objective>", "critic"))
        null = f"; `null`: {kind.null}" if kind is not None and kind.null else ""
        out.append(f"| `{key}` | `{default}` | {kind}{null} | {comment} |")
    return out


def _read(path: Path, group: str) -> Iterator[tuple[str, str, str]]:
    """Key, default as written and the comment above it, of every key in a file of ``conf/`` that has a kind."""
    parents: list[str] = []
    comment: list[str] = []
    whole = path.read_text()
    group = "" if whole.startswith(GLOBAL) else group
    for line in whole.removeprefix(GLOBAL).splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment.append(text.removeprefix("# "))
            continue
        key, separator, value = text.partition(":")
        if separator and not key.startswith("-"):
            depth = (len(line) - len(line.lstrip())) // 2
            parents = [*parents[:depth], key]
            name = ".".join(([group] if group else []) + parents)
            if value.strip() and kind_of(name.replace("<objective>", "critic")) is not None:
                own = comment[1:] if comment and comment[0] == _title(path) else comment
                yield name, value.strip(), " ".join(own)
        comment = []


def _title(path: Path) -> str:
    return path.read_text().removeprefix(GLOBAL).splitlines()[0].removeprefix("# ")


if __name__ == "__main__":
    assert KEYS
    (ROOT / "docs" / "configuration.md").write_text(page())
