"""The page: one HTML file with everything in it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lit_mtrl.report.style import Drawn

GENERATOR = '<meta name="generator" content="lit_mtrl report">'
"""By which a page of ours is known."""
CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1c2430;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", Verdana, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 1.2rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .2rem 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; padding-top: .7rem;
  border-top: 1px solid #dfe4ea; overflow-wrap: anywhere; }
p, li { max-width: 78ch; overflow-wrap: anywhere; }
nav { font-size: .9rem; margin: .8rem 0; }
nav a { display: inline-block; margin: .1rem .9rem .1rem 0; }
a { color: #1a5fa8; }
.caption, .files { color: #4a5563; font-size: .9rem; margin: .2rem 0; }
.warnings, .notes { border-left: 4px solid #c77700; background: #fff6e6; padding: .5rem .9rem; margin: .8rem 0; }
.notes { border-color: #9fb3c8; background: #f3f6f9; }
.warnings ul, .notes ul { margin: .2rem 0; padding-left: 1.1rem; }
.scroll { overflow-x: auto; max-width: 100%; border: 1px solid #dfe4ea; border-radius: 4px; margin: .6rem 0; }
.tall { max-height: 32rem; overflow-y: auto; }
figure { margin: .6rem 0; }
figure img { display: block; height: auto; max-width: none; }
@media (min-width: 700px) { figure img { max-width: 100%; } }
table { border-collapse: collapse; font-size: .86rem; width: 100%; }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid #edf0f3; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 17rem; }
th { background: #f3f6f9; font-weight: 600; position: sticky; top: 0; }
.number { text-align: right; }
"""


@dataclass
class Section:
    """A heading with figures, tables (HTML, as `tables.to_html` makes it) and notes; ``files`` are linked, relative to
    the page.
    """

    anchor: str
    title: str
    caption: str = ""
    parts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def build(
    title: str, lead: Sequence[str], warnings: Sequence[str], notes: Sequence[str], sections: Sequence[Section]
) -> str:
    """The whole page; all texts but ``parts`` are escaped here."""
    links = "".join(f'<a href="#{html.escape(each.anchor)}">{html.escape(each.title)}</a>' for each in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{GENERATOR}\n<title>{html.escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{html.escape(title)}</h1>\n"
        + "".join(f"<p>{html.escape(line)}</p>\n" for line in lead)
        + _list("warnings", warnings)
        + _list("notes", notes)
        + f"<nav>{links}</nav>\n"
        + "".join(map(_section, sections))
        + "</main>\n</body>\n</html>\n"
    )


def picture(drawn: Drawn, name: str, folder: Path) -> str:
    """An ``img`` with the PNG inside."""
    assert drawn.figure is not None
    data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
    width = round(drawn.figure.get_size_inches()[0] * 96)
    alternative = html.escape(f"{drawn.title}: {drawn.caption}")
    return (
        f'<figure class="scroll"><img width="{width}" src="data:image/png;base64,{data}" alt="{alternative}"></figure>'
    )


def _section(each: Section) -> str:
    files = ", ".join(f'<a href="{html.escape(path)}">{html.escape(path)}</a>' for path in each.files)
    return (
        f'<section id="{html.escape(each.anchor)}">\n<h2>{html.escape(each.title)}</h2>\n'
        + (f'<p class="caption">{html.escape(each.caption)}</p>\n' if each.caption else "")
        + "\n".join(each.parts)
        + _list("notes", each.notes)
        + (f'<p class="files">Files: {files}</p>\n' if files else "")
        + "</section>\n"
    )


def _list(kind: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<div class="{kind}"><ul>{items}</ul></div>\n' if items else ""
