"""What a report costs: seconds and resident memory, for runs of a size that a study has.

Writes folders of runs with 100 evaluations of 50 tasks and a ``metrics.csv`` of 1000 rows and 100 columns (random
numbers), reads them and writes the whole report of 20 groups, in a process of its own.

    python -m benchmarks.report [--runs 200] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lit_mtrl.envs.benchmarks import MT50

EVALUATIONS, ROWS, COLUMNS, SEEDS, FRAMES = 100, 1000, 100, 10, 100_000_000


def write_runs(folder: Path, count: int) -> None:
    """``count`` runs, ten seeds to a width."""
    rng = np.random.default_rng(0)
    for i in range(count):
        run, width = folder / f"r{i}", 64 * (1 + i // SEEDS)
        run.mkdir(parents=True)
        config: dict[str, Any] = {
            "benchmark": {"name": "mt50", "tasks": "mt50"},
            "env": {"_target_": "lit_mtrl.envs.metaworld.MetaWorld", "horizon": 500, "goals": 50, "rewards": "v2"},
            "algo": {"name": "sac"},
            "network": {"name": "multi_head", "width": width},
            **dict(seed=i % SEEDS, frames=FRAMES, run_name=run.name),
        }
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        (run / "run.json").write_text(json.dumps({"parameters": {"actor": width**2, "critic": 2 * width**2}}))
        at = np.linspace(0, FRAMES, EVALUATIONS + 1)[1:].astype(int)
        success = rng.random((EVALUATIONS, len(MT50)))
        table = {
            "frames": at.repeat(len(MT50)),
            "task": MT50 * EVALUATIONS,
            "success": success.ravel(),
            "return": 1.0,
            "length": 500.0,
        }
        pd.DataFrame(table).to_csv(run / "eval.csv", index=False, lineterminator="\r\n")
        names = ["time/total", "norm/actor/params", "norm/actor/grad", "norm/critic/params", "norm/critic/grad"]
        names += [f"alpha/{j}" for j in range(COLUMNS - len(names))]
        metrics = pd.DataFrame(rng.random((ROWS, COLUMNS)), columns=pd.Index(names))
        metrics["time/total"] = np.linspace(0, 36_000, ROWS)
        metrics.insert(0, "frames", np.linspace(0, FRAMES, ROWS + 1)[1:].astype(int))
        metrics.to_csv(run / "metrics.csv", index=False, lineterminator="\r\n")
        measures = ["dormant_0.1", "srank", "effective_rank", "change_start", "change_last"]
        nets = ["actor", "critic_0", "critic_1"]
        rows = pd.DataFrame(rng.random((EVALUATIONS * len(nets), len(measures))), columns=pd.Index(measures))
        rows = pd.DataFrame({"frames": at.repeat(len(nets)), "net": nets * EVALUATIONS, "layer": "total"}).join(rows)
        rows.to_csv(run / "plasticity.csv", index=False, lineterminator="\r\n")


def measure(folder: Path) -> dict[str, float]:
    """Seconds to read the runs and to write the report, of the clock and of the processor, and the peak of resident
    memory in MiB.
    """
    from lit_mtrl.report import read_folders, write_report

    start, cpu = time.perf_counter(), time.process_time()
    runs = read_folders([folder])
    read = time.perf_counter() - start
    page = write_report(runs, folder.parent / "report", title="benchmark")
    return {
        "runs": len(runs),
        "read_seconds": round(read, 2),
        "total_seconds": round(time.perf_counter() - start, 2),
        "processor_seconds": round(time.process_time() - cpu, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "page_mib": round(page.stat().st_size / 2**20, 2),
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    from benchmarks.networks import machine  # imports PyTorch, which the process that is measured does without

    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder) / "runs", args.runs)
        command = [sys.executable, "-m", "benchmarks.report", "--measure", f"{folder}/runs"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    text = json.dumps({"machine": machine(), **json.loads(done.stdout)}, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
