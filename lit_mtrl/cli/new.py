"""The command ``new``: a template of the user's own part, which trains as it is."""

from __future__ import annotations

import argparse
import keyword
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

from lit_mtrl.config.folders import groups
from lit_mtrl.core.errors import PAGE, ConfigError, require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.core.text import require_short, shown

KINDS = {
    "network": "network",
    "algorithm": "algo",
    "critic": "critic",
    "weighting": "weighting",
    "suite": "env",
    "callback": "callbacks",
}
"""What there are templates of, each with its config group."""
TEMPLATES = Path(__file__).parent / "templates"


def new(args: argparse.Namespace) -> int:
    """Write a class, its yaml, an experiment on the probes and a test; print what to run next."""
    require(args.kind in KINDS, unknown("new", shown(args.kind), KINDS))
    files = _files(args.kind, args.name, Path(args.dir))
    _require_free(args.kind, args.name, list(files), Path(args.dir))
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(
            f"--dir {shown(args.dir)}: {error.strerror} ({error.filename}); choose another one"
        ) from error
    print("\n".join(map(str, files)))
    code, *_, test = files
    folder = shlex.quote(str(Path(args.dir) / "conf"))
    print(f"\nEdit {code} ({PAGE} says what it may have), then:")
    print(f"  python -m pytest {shlex.quote(str(test))}")
    print(f"  python -m lit_mtrl fit --config {args.name}_debug --config-dir {folder}")
    return 0


def _files(kind: str, name: str, folder: Path) -> dict[Path, str]:
    """Where each file of the template goes, and what it says."""
    taken = name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")
    require(taken, f"new {kind} {shown(name)}: give a name that Python can import, such as my_{kind}")
    require_short(f"new {kind}", f"test_{name}_debug.yaml")
    places = {
        f"my_{kind}.py": f"{name}.py",
        f"my_{kind}.yaml": f"conf/{KINDS[kind]}/{name}.yaml",
        f"my_{kind}_debug.yaml": f"conf/experiment/{name}_debug.yaml",
        f"test_my_{kind}.py": f"test_{name}.py",
    }
    class_name = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    names = {f"{__package__}.templates.{kind}.": "", f"my_{kind}": name, f"My{kind.capitalize()}": class_name}
    pattern = re.compile("|".join(map(re.escape, names)))
    return {
        folder / place: pattern.sub(lambda found: names[found[0]], (TEMPLATES / kind / template).read_text())
        for template, place in places.items()
    }


def _require_free(kind: str, name: str, files: list[Path], folder: Path) -> None:
    """`ConfigError` if a file is there, or if the name means something else already."""
    for path in files:
        require(not path.exists(), f"new {kind} {name}: {path} exists; remove it, or choose another name")
    known = groups()
    ours = name in known[KINDS[kind]] or f"{name}_debug" in known["experiment"]
    require(not ours, f"new {kind} {name}: there is {KINDS[kind]}={name} already; choose another name")
    found = find_spec(name)
    where = found and (found.origin or next(iter(found.submodule_search_locations or ()), "Python itself"))
    require(found is None, f"new {kind} {name}: there is a module of that name ({where}); choose another name")
    require(not folder.exists() or folder.is_dir(), f"--dir {shown(folder)}: is no folder")
