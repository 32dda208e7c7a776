"""Runs the probes and prints what they find.

Those that import much, or may hang or crash, run in processes of their own, side by side and each within a time limit;
what they found before they ended badly is kept.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lit_mtrl.core.tables import to_json
from lit_mtrl.doctor import devices, simulation, store, system
from lit_mtrl.doctor.finding import MISSING, PROBLEM, Finding, Probe, guarded, title

HERE: tuple[Probe, ...] = (
    system.python,
    system.packages,
    system.compiler,
    system.cores,
    system.shared_memory,
    system.open_files,
    system.outputs,
)
APART: tuple[Probe, ...] = (
    devices.torch,
    devices.gpus,
    devices.ranks,
    simulation.physics,
    simulation.compiled_steps,
    simulation.rendering_EGL,
    simulation.rendering_OSMesa,
    simulation.room,
    store.mlflow_store,
)
NEEDED = {("packages", MISSING), *((name, state) for name in ("torch", "physics") for state in (MISSING, PROBLEM))}
"""Names and states of findings with which nothing can be trained."""
LIMIT = 60.0
"""Seconds that a probe may take."""
MARK = "finding "
"""Begins the lines of a probe's process that are findings; libraries print, too."""


def doctor(tracking_uri: str | None = None, as_json: bool = False) -> int:
    """Print what is found; 0 if something can be trained here, else 1. ``tracking_uri`` None is ``mlflow.db`` in the
    working directory.
    """
    found = []
    for finding in examine(tracking_uri):
        found.append(finding)
        if not as_json:
            name, state, text, remedy = finding
            sys.stdout.write(f"{name:<16} {state:<8} {'; '.join(filter(None, [text, remedy]))}\n")
            sys.stdout.flush()
    lacking = [finding.name for finding in found if (finding.name, finding.state) in NEEDED]
    if as_json:
        report = {"can_train": not lacking, "findings": [finding._asdict() for finding in found]}
        sys.stdout.write(to_json(report, indent=2) + "\n")
    else:
        sys.stdout.write(f"cannot train here: {', '.join(lacking)}\n" if lacking else "can train here\n")
    return int(bool(lacking))


def examine(tracking_uri: str | None = None) -> Iterator[Finding]:
    """Findings of all probes, in order, as they come in."""
    variables = {store.STORE: tracking_uri or "sqlite:///mlflow.db"}
    threads = ThreadPoolExecutor(max(2, len(os.sched_getaffinity(0)) // 2))
    try:
        apart = [threads.submit(run_apart, probe, variables) for probe in APART]
        for probe in HERE:
            yield from guarded(probe)
        for future in apart:
            yield from future.result()
    finally:
        threads.shutdown(cancel_futures=True)


def run_apart(probe: Probe, variables: dict[str, str]) -> list[Finding]:
    """What ``probe`` yields in a process of its own, with these environment variables."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [sys.executable, "-m", __spec__.name, probe.__name__],
        env={**os.environ, **variables, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,
    ) as process:
        reason = ""
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what it has started would keep its output open
            out, err = process.communicate()
            reason = f"no answer within {LIMIT:g} s"
    if process.returncode and not reason:
        said = err.strip().splitlines()[-1][:300] if err.strip() else "no message"
        code = process.returncode
        reason = f"died of {signal.Signals(-code).name} ({said})" if code < 0 else f"exit code {code} ({said})"
    lines = [line.removeprefix(MARK) for line in out.splitlines() if line.startswith(MARK)]
    found = [Finding(*json.loads(line)) for line in lines]
    return [*found, Finding(title(probe), PROBLEM, reason)] if reason else found


if __name__ == "__main__":
    for finding in guarded({probe.__name__: probe for probe in APART}[sys.argv[1]]):
        sys.stdout.write(f"{MARK}{to_json(finding)}\n")
        sys.stdout.flush()
    os._exit(0)  # graphics libraries may crash while the interpreter ends
