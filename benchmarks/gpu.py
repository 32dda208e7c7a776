"""Every check that needs a GPU, by one command: its tests, speed, and the published success, each figure beside what is asked of it.

    python -m benchmarks.gpu [--widths 1024 256] [--seeds 0] [--frames 2_000_000] [--out results/gpu] [--skip tests bench training]
    python -m benchmarks.gpu --small [--out outputs/gpu_small/results]        # the same on the CPU in two minutes; nothing is judged

tests     `pytest -m gpu`: none may fail
bench     `bench` of ``mt10_mtmhsac_fast`` at width 400: at most 0.5 ms an update in ``cudagraph``, at least 15,000 frames/s end to end; and the limits
training  `fit` of ``mt10_mtmhsac_fast``: success at 1M and 2M frames within 0.1 of McLean et al. (2025), for widths 1024 and 256

What is trained is ``mt10_mtmhsac`` number for number, but for two things: EnvPool steps the environments of training, and the policy that acts is
one iteration older, since collection is beside the updates. Evaluation is on the official environments. The published figures are means of ten
seeds, ours of ``--seeds``.

It may be cut off at any time and called again: ``gpu.json`` is written after every part, and the next call does what is missing. Runs are continued
from the checkpoints in ``outputs/gpu``. Every part is a process of its own, with its output in ``outputs/gpu/<part>.log``. Exit code: 0, all met; 1, something was
missed or failed; 2, nothing was started.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lit_mtrl.bench.machine import machine
from lit_mtrl.bench.table import table
from lit_mtrl.cli import Parser
from lit_mtrl.labels import RUN
from lit_mtrl.processes import die_with_parent
from lit_mtrl.spec import MT10, ConfigError, require

ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = ROOT / "outputs"
EXPERIMENT = "mt10_mtmhsac_fast"
GROUPS = ("tests", "bench", "training")
SECTIONS = ("update", "end_to_end", "limits")
PUBLISHED = {1024: {1_000_000: 0.41, 2_000_000: 0.64}, 256: {1_000_000: 0.28, 2_000_000: 0.50}}
"""Width, frames and success: read from figure 4a of McLean et al. (2025)."""
KEPT = ("config.yaml", "eval.csv", "metrics.csv")
POLL = 10.0
"""Seconds between two looks at a run that trains."""

Entry = dict[str, Any]


class Failed(Exception):
    """A part ended without a result; the message says how."""


class Size(NamedTuple):
    """What differs between the checks and their trial on the CPU."""

    name: str
    frames: int
    epoch_frames: int
    every_epochs: int
    widths: tuple[int, ...]
    width: int
    seconds: float
    overrides: tuple[str, ...]
    pytest: tuple[str, ...]
    environment: dict[str, str]


FULL = Size("gpu", 2_000_000, 200_000, 5, (1024, 256), 400, 2.0, (), ("-n", "8", "--dist", "worksteal"), {})
SMALL = Size(
    name="gpu_small",
    frames=20_000,
    epoch_frames=5_000,
    every_epochs=2,
    widths=(32, 16),
    width=32,
    seconds=0.2,
    overrides=("replay.per_task=8", "replay.capacity=2_000", "eval.episodes=1", "collector.random_steps=200"),
    pytest=("--collect-only",),
    # Compiling takes a minute per batch, however small the network is; without Dynamo the mode is eager.
    environment={"CUDA_VISIBLE_DEVICES": "", "TORCHDYNAMO_DISABLE": "1"},
)


class Check(NamedTuple):
    """A figure, None if it was not measured, and what is asked: ``relation`` is at most, at least or within 0.1 of ``asked``, or None."""

    name: str
    relation: str | None
    asked: float | None
    measured: float | None
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """None where nothing is asked, or nothing measured."""
        if self.asked is None or self.measured is None:
            return None
        if self.relation == "within 0.1 of":
            return round(abs(self.measured - self.asked), 6) <= 0.1
        return self.measured <= self.asked if self.relation == "at most" else self.measured >= self.asked

    def row(self, small: bool) -> dict[str, str]:
        """For the table."""
        asked = "-" if self.asked is None else f"{self.relation} {self.asked:,g} {self.unit}".strip()
        measured = (
            "-"
            if self.measured is None
            else f"{self.measured:,.3g}"
            if self.measured < 1000
            else f"{self.measured:,.0f}"
        )
        met = {True: "yes", False: "no", None: "not measured" if self.measured is None else "not asked"}[self.met]
        if small and self.measured is not None:
            met = "not judged (small)"
        return {
            "check": self.name,
            "asked": asked,
            "measured": f"{measured} {self.unit}".strip(" -") or "-",
            "met": met,
        }


class Session:
    """The parts of one folder ``args.out``, done and to do."""

    def __init__(self, args: argparse.Namespace, size: Size):
        self.args, self.size, self.out = args, size, Path(args.out)
        self.file = self.out / "gpu.json"
        self.parts: dict[str, Entry] = {}
        if self.file.exists():
            saved = json.loads(self.file.read_text())
            require(
                saved["size"] == size.name,
                f"--out {self.out}: holds what was measured with and without --small; choose another folder",
            )
            self.parts = saved["parts"]

    def todo(self) -> list[tuple[str, Callable[[Entry], None]]]:
        """Name and function of every part that was selected; a function fills the part's entry in ``gpu.json``."""
        every: dict[str, list[tuple[str, Callable[[Entry], None]]]] = {
            "tests": [("tests", self.tests)],
            "bench": [(section, partial(self.bench, section)) for section in SECTIONS],
            "training": [(_run(w, s), partial(self.train, w, s)) for s in self.args.seeds for w in self.args.widths],
        }
        return [part for group in GROUPS if group not in self.args.skip for part in every[group]]

    def work(self) -> None:
        """Do what is missing of the selected parts; with ``--again``, all of them anew."""
        todo = self.todo()
        if self.args.again:
            for name, _ in todo:
                self.parts.pop(name, None)
                shutil.rmtree(OUTPUTS / self.size.name / name, ignore_errors=True)
        self.save()
        for name, function in todo:
            entry = self.parts.setdefault(name, {})
            if self.done(entry):
                print(f"{name}: done before")
                continue
            entry.pop("failed", None)
            entry["commit"], entry["machine"] = (
                self.args.commit,
                machine(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
            )
            print(f"{name}: started at {time.strftime('%H:%M:%S')}, {self.log(name)}", flush=True)
            try:
                function(entry)
                print(f"{name}: {entry['seconds']:.0f} s", flush=True)
            except Failed as error:
                entry["failed"] = str(error)
                print(f"{name}: failed, {error}", flush=True)
            self.save()

    def done(self, entry: Entry) -> bool:
        """Whether there is a result; a run's is the evaluation at the end of the budget."""
        if "success" in entry:
            return max(map(int, entry["success"]), default=0) >= self.args.frames
        return "result" in entry

    def tests(self, entry: Entry) -> None:
        """The tests marked ``gpu``."""
        code = self.call("tests", entry, ["pytest", "-m", "gpu", "-q", *self.size.pytest])
        entry["summary"] = next(line for line in reversed(self.log("tests").read_text().splitlines()) if line.strip())
        if code not in (0, 1):
            raise Failed(f"pytest ended with {code}: {entry['summary']}")
        print(entry["summary"])
        entry["result"] = _count_failures(entry["summary"])

    def bench(self, section: str, entry: Entry) -> None:
        """One section of ``bench``; the network is updated in every engine mode."""
        found = self.log(section).with_suffix(".json")
        found.unlink(missing_ok=True)
        command = ["lit_mtrl", "bench", "--config", EXPERIMENT, "--only", section, "--networks", "multi_head"]
        command += ["--seconds", f"{self.size.seconds:g}", f"network.width={self.size.width}", *self.size.overrides]
        code = self.call(section, entry, [*command, "--json", str(found.relative_to(ROOT))])
        if code:
            raise Failed(f"bench ended with {code}")
        entry["result"] = json.loads(found.read_text())[section]

    def train(self, width: int, seed: int, entry: Entry) -> None:
        """One run, from its last checkpoint if there is one."""
        name, size = _run(width, seed), self.size
        folder = OUTPUTS / size.name / name
        entry |= {"width": width, "seed": seed, "success": success(folder)}
        if not self.done(entry):
            command = ["lit_mtrl", "fit", f"frames={self.args.frames}"]
            if (folder / "checkpoints" / "last.ckpt").exists():
                command += ["--resume", str(folder.relative_to(ROOT))]
            else:
                command += [
                    "--config",
                    EXPERIMENT,
                    f"network.width={width}",
                    f"seed={seed}",
                    "logger=csv",
                    *size.overrides,
                ]
                command += [f"epoch_frames={size.epoch_frames}", f"eval.every_epochs={size.every_epochs}"]
                command += [f"experiment_name={size.name}", f"run_name={name}"]
            if code := self.call(name, entry, command, partial(self.collect, name, entry)):
                raise Failed(f"fit ended with {code}; a further call continues it")
        entry.setdefault("seconds", 0.0)
        self.collect(name, entry)
        commit = json.loads((folder / RUN).read_text())["tags"]["git_commit"]
        entry["commit"] = self.args.commit if commit == "unknown" else commit

    def collect(self, name: str, entry: Entry) -> None:
        """Copy what the run has left so far, and note its success and frames per second."""
        folder = OUTPUTS / self.size.name / name
        (self.out / name).mkdir(parents=True, exist_ok=True)
        for file in KEPT:
            if (folder / file).exists():
                shutil.copy(folder / file, self.out / name / file)
        entry["success"], entry["frames_per_second"] = success(folder), speed(folder)
        self.save()

    def call(self, name: str, entry: Entry, command: list[str], look: Callable[[], object] = lambda: None) -> int:
        """Run ``python -m command`` to its end, `look` now and then; its exit code. ``seconds`` of the entry are those of all calls together."""
        entry["command"] = f"python -m {shlex.join(command)}"
        before, start = entry.get("seconds", 0.0), time.perf_counter()
        self.log(name).parent.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env={**os.environ, **self.size.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
            try:
                code = None
                while code is None:
                    try:
                        code = process.wait(POLL)
                    except subprocess.TimeoutExpired:
                        entry["seconds"] = before + time.perf_counter() - start
                        look()
            finally:
                process.kill()
                process.wait()
        entry["seconds"] = before + time.perf_counter() - start
        if code:
            print("\n".join(self.log(name).read_text().splitlines()[-20:]), flush=True)
        return code

    def log(self, name: str) -> Path:
        """Where a part's output goes."""
        return OUTPUTS / self.size.name / f"{name}.log"

    def checks(self) -> list[Check]:
        """Every figure that something is asked of, measured or not, and those of all runs."""
        result = {name: self.parts.get(name, {}).get("result") for name in ("tests", *SECTIONS)}
        ms = next((row["update_ms"] for row in result["update"] or () if row["mode"] == "cudagraph"), None)
        rate = next((row["frames_per_second"] for row in result["end_to_end"] or () if row["overlap"]), None)
        checks = [
            Check("tests that need a GPU", "at most", 0, result["tests"], "failed"),
            Check(f"update, width {self.size.width}, cudagraph", "at most", 0.5, ms, "ms"),
            Check(f"end to end, width {self.size.width}", "at least", 15_000, rate, "frames/s"),
        ]
        runs = [entry for entry in self.parts.values() if "success" in entry]
        for width in sorted({*self.args.widths, *(run["width"] for run in runs)}, reverse=True):
            own = [run for run in runs if run["width"] == width]
            published = PUBLISHED.get(width, {})
            for frames in sorted({*published, *(int(f) for run in own for f in run["success"])}):
                values = [run["success"][str(frames)] for run in own if str(frames) in run["success"]]
                name = f"success, width {width}, {frames:,} frames" + (
                    f", {len(values)} seeds" if len(values) > 1 else ""
                )
                mean = statistics.mean(values) if values else None
                checks.append(Check(name, "within 0.1 of", published.get(frames), mean))
            rates = [run["frames_per_second"] for run in own if run.get("frames_per_second")]
            if rates:
                checks.append(Check(f"training, width {width}", None, None, statistics.median(rates), "frames/s"))
        return checks

    def save(self) -> None:
        """Write ``gpu.json``, whole or not at all."""
        small = self.size is SMALL
        checks = [{**check._asdict(), "met": None if small else check.met} for check in self.checks()]
        self.out.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".new")
        temporary.write_text(
            json.dumps({"size": self.size.name, "checks": checks, "parts": self.parts}, indent=2) + "\n"
        )
        temporary.replace(self.file)


def success(run: Path) -> dict[str, float]:
    """Frames and mean success over tasks of every evaluation in ``run``'s ``eval.csv``."""
    rows: dict[str, list[float]] = {}
    for row in _rows(run / "eval.csv"):
        rows.setdefault(row["frames"], []).append(float(row["success"]))
    return {frames: round(statistics.mean(each), 4) for frames, each in rows.items() if len(each) == len(MT10)}


def speed(run: Path) -> float | None:
    """Median of ``metrics.csv``'s frames per second, once there are updates; without evaluations and checkpoints."""
    rows = [row for row in _rows(run / "metrics.csv") if float(row["speed/updates_per_second"] or 0) > 0]
    return statistics.median(float(row["speed/frames_per_second"]) for row in rows) if rows else None


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table that another process may be writing: a last one that is not whole is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def _run(width: int, seed: int) -> str:
    return f"{EXPERIMENT}_w{width}_s{seed}"


def _count_failures(summary: str) -> int | None:
    """Of pytest's last line; None if no test ran."""
    found = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", summary)}
    return found.get("failed", 0) + found.get("error", 0) if found else None


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Size]:
    parser = Parser(prog="benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", type=int, metavar="N", help="of the runs (1024 256)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="of the runs (0)")
    parser.add_argument("--frames", type=int, metavar="N", help="of every run (2_000_000)")
    parser.add_argument("--out", metavar="DIR", help="for gpu.json, and a folder of tables per run (results/gpu)")
    parser.add_argument(
        "--skip", nargs="+", default=[], choices=GROUPS, help="do without; all three: only show what there is"
    )
    parser.add_argument(
        "--again", action="store_true", help="drop what there is of the selected parts, checkpoints included"
    )
    parser.add_argument("--commit", default=_commit(), metavar="TEXT", help="what is measured, where git cannot tell")
    parser.add_argument("--small", action="store_true", help="try the command on the CPU with tiny networks")
    args = parser.parse_args(argv)
    size = SMALL if args.small else FULL
    args.widths = args.widths or list(size.widths)
    args.frames = args.frames or size.frames
    args.out = args.out or ("outputs/gpu_small/results" if args.small else "results/gpu")
    return args, size


def _check(args: argparse.Namespace, size: Size) -> None:
    """`ConfigError` if something is missing or does not fit."""
    require(args.small or torch.cuda.is_available(), "no GPU: PyTorch finds none here; try the command with --small")
    require(min(args.widths) > 0, f"--widths {min(args.widths)}: networks have one unit or more")
    whole = args.frames > 0 and args.frames % size.epoch_frames == 0
    require(
        whole, f"--frames {args.frames}: give a multiple of {size.epoch_frames:,}, the frames between two checkpoints"
    )
    for module, extra in (("envpool", "fast"), ("xdist", "dev")):
        require(find_spec(module) is not None, f"{module} is not installed: pip install 'lit_mtrl[{extra}]'")


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is missing and print the table; the exit code."""
    try:
        args, size = _parse(argv)
        _check(args, size)
        session = Session(args, size)
        session.work()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; a further call continues", file=sys.stderr)
        return 130
    checks = session.checks()
    print("\n" + table([check.row(args.small) for check in checks]))
    failed = any("failed" in session.parts.get(name, {}) for name, _ in session.todo())
    return int(failed or (not args.small and any(check.met is False for check in checks)))


if __name__ == "__main__":
    sys.exit(main())
