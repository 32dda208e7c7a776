"""Every check that needs a GPU, by one command: its tests, speed, and the published success, each figure beside what is
asked of it.

    python -m benchmarks.gpu [--widths 1024 256] [--seeds 0] [--frames 2_000_000] [--out results/gpu]
        [--skip tests bench training]
    python -m benchmarks.gpu --small [--out outputs/gpu_small/results]
        # the same on the CPU in two minutes; nothing is judged

tests     `pytest -m gpu`: none may fail
bench     `bench` of ``mt10_mtmhsac_fast`` at width 400: at most 0.5 ms an update in ``cudagraph``, at least 15,000
          frames/s end to end; and the limits
training  `fit` of ``mt10_mtmhsac_fast``: success at 1M and 2M frames within 0.1 of McLean et al. (2025), for widths
          1024 and 256

What is trained is ``mt10_mtmhsac`` number for number, but for one thing: the policy that acts is one iteration older,
since collection is beside the updates. The published figures are of ten seeds, ours means of ``--seeds``.

It may be cut off at any time and called again: ``gpu.json`` is written after every part, and the next call does what is
missing. Runs are continued from the checkpoints in ``outputs/gpu``. Every part is a process of its own, with its output
in ``outputs/gpu/<part>.log``. Exit code: 0, all met; 1, something was missed or failed; 2, nothing was started.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.asked import FULL, SMALL, Size, checks, speed, success
from lit_mtrl.bench.machine import machine
from lit_mtrl.bench.table import table
from lit_mtrl.cli.main import Parser
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.processes import die_with_parent
from lit_mtrl.runs.tags import RUN, git_commit

ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = ROOT / "outputs"
EXPERIMENT = "mt10_mtmhsac_fast"
GROUPS = ("tests", "bench", "training")
SECTIONS = ("update", "end_to_end", "limits")
KEPT = ("config.yaml", "eval.csv", "metrics.csv")
POLL = 10.0
"""Seconds between two looks at a run that trains."""

Entry = dict[str, Any]


class PartError(Exception):
    """A part ended without a result; the message says how."""


class Session:
    """The parts of one folder ``args.out``, done and to do."""

    def __init__(self, args: argparse.Namespace, size: Size):
        self.args, self.size, self.out = args, size, Path(args.out)
        self.file = self.out / "gpu.json"
        self.parts: dict[str, Entry] = {}
        if self.file.exists():
            saved = json.loads(self.file.read_text())
            other = f"--out {args.out}: holds the results of {saved['size']}, not of {size.name}; choose another folder"
            require(saved["size"] == size.name, other)
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
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            entry |= {"commit": self.args.commit, "machine": machine(device)}
            print(f"{name}: started at {time.strftime('%H:%M:%S')}, {self.log(name)}", flush=True)
            try:
                function(entry)
                print(f"{name}: {entry['seconds']:.0f} s", flush=True)
            except PartError as error:
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
        lines = [line for line in self.log("tests").read_text().splitlines() if line.strip()]
        entry["summary"], entry["failures"] = "".join(lines[-1:]), [line for line in lines if line.startswith("FAILED")]
        print(entry["summary"])
        if code not in (0, 1):
            raise PartError(f"pytest ended with {code}")
        entry["result"] = _count_failures(entry["summary"])

    def bench(self, section: str, entry: Entry) -> None:
        """One section of ``bench``; the network is updated in every engine mode."""
        found = self.log(section).with_suffix(".json")
        found.unlink(missing_ok=True)
        command = ["lit_mtrl", "bench", "--config", EXPERIMENT, "--only", section, "--networks", "multi_head"]
        command += ["--seconds", f"{self.size.seconds:g}", f"network.width={self.size.width}", *self.size.overrides]
        code = self.call(section, entry, [*command, "--json", str(found.relative_to(ROOT))])
        if code:
            raise PartError(f"bench ended with {code}")
        # Their rows are not what their names say.
        entry["eager"] = [line for line in self.log(section).read_text().splitlines() if "run eagerly instead" in line]
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
                command += ["--config", EXPERIMENT, f"network.width={width}", f"seed={seed}", *size.overrides]
                command += ["logger=csv", f"epoch_frames={size.epoch_frames}", f"eval.every_epochs={size.every_epochs}"]
                command += [f"experiment_name={size.name}", f"run_name={name}"]
            if code := self.call(name, entry, command, partial(self.collect, name, entry)):
                raise PartError(f"fit ended with {code}; a further call continues it")
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
        """Run ``python -m command`` to its end, `look` now and then; its exit code. ``seconds`` of the entry are those
        of all calls together.
        """
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

    def save(self) -> None:
        """Write ``gpu.json``, whole or not at all."""
        small = self.size is SMALL
        found = checks(self.parts, self.args.widths, self.size)
        rows = [{**check._asdict(), "met": None if small else check.met} for check in found]
        self.out.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".new")
        temporary.write_text(json.dumps({"size": self.size.name, "checks": rows, "parts": self.parts}, indent=2) + "\n")
        temporary.replace(self.file)


def _run(width: int, seed: int) -> str:
    return f"{EXPERIMENT}_w{width}_s{seed}"


def _count_failures(summary: str) -> int | None:
    """Of pytest's last line; None if no test ran."""
    found = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", summary)}
    return found.get("failed", 0) + found.get("error", 0) if found else None


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Size]:
    parser = Parser(prog="benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", type=int, metavar="N", help="of the runs (1024 256)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="of the runs (0)")
    parser.add_argument("--frames", type=int, metavar="N", help="of every run (2_000_000)")
    parser.add_argument("--out", metavar="DIR", help="for gpu.json, and a folder of tables per run (results/gpu)")
    parser.add_argument("--skip", nargs="+", default=[], choices=GROUPS, help="all three: only show what there is")
    parser.add_argument("--again", action="store_true", help="drop what there is of the selected parts, runs included")
    parser.add_argument(
        "--commit", default=git_commit(), metavar="TEXT", help="what is measured, where git cannot tell"
    )
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
    require(whole, f"--frames {args.frames}: give a multiple of {size.epoch_frames:,}, as checkpoints are so far apart")
    require(find_spec("xdist") is not None, "xdist is not installed: pip install 'lit_mtrl[dev]'")


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
    found = checks(session.parts, args.widths, size)
    print("\n" + table([check.row(args.small) for check in found]))
    failed = any("failed" in session.parts.get(name, {}) for name, _ in session.todo())
    return int(failed or (not args.small and any(check.met is False for check in found)))


if __name__ == "__main__":
    sys.exit(main())
