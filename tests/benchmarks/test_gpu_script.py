"""``benchmarks.gpu``: what it does first and again after a cut, what it writes, and how it judges; the heavy parts are
replaced.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import gpu
from benchmarks.asked import CLOSE, FULL, PUBLISHED, SMALL, Check, success
from lit_mtrl.cli.main import _parse
from lit_mtrl.envs.benchmarks import MT10
from lit_mtrl.report.published import load
from lit_mtrl.runs.match import composed

RUNS = ["mt10_mtmhsac_fast_w1024_s0", "mt10_mtmhsac_fast_w256_s0"]
PARTS = ["tests", "update", "end_to_end", "limits", *RUNS]
ROWS = {
    "update": [{"mode": "eager", "update_ms": 3.0}, {"mode": "cudagraph", "update_ms": 0.4}],
    "end_to_end": [{"overlap": False, "frames_per_second": 9e3}, {"overlap": True, "frames_per_second": 2e4}],
    "limits": [{"limit": "physics", "value": 1.0, "unit": "frames/s"}],
}


class Machine:
    """Answers what `gpu.Session.call` is asked to run, at once; ``until`` cuts a run off there, ``codes`` are what
    parts end with.
    """

    def __init__(self, root: Path):
        self.root = root
        self.commands: list[list[str]] = []
        self.codes: dict[str, int] = {}
        self.until: dict[str, int] = {}
        self.rows = dict(ROWS)
        self.summary = "108 passed, 2046 deselected in 60.00s"
        self.said = ""

    def call(self, session: gpu.Session, name: str, entry: gpu.Entry, command: list[str], look=lambda: None) -> int:
        self.commands.append(command)
        entry["seconds"] = entry.get("seconds", 0.0) + 1.0
        session.log(name).parent.mkdir(parents=True, exist_ok=True)
        session.log(name).write_text(f"{self.said}\n{self.summary}\n")
        if command[1] == "bench" and not self.codes.get(name):
            (self.root / command[-1]).write_text(json.dumps({name: self.rows[name]}))
        if command[1] == "fit":
            self.train(session, name, self.until.pop(name, session.args.frames), look)
        return self.codes.get(name, 0)

    def train(self, session: gpu.Session, name: str, until: int, look: Callable[[], object]) -> None:
        folder = self.root / "outputs" / session.size.name / name
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        for file in ("checkpoints/last.ckpt", "config.yaml"):
            (folder / file).touch()
        (folder / "run.json").write_text(json.dumps({"tags": {"git_commit": "unknown"}}))
        (folder / "metrics.csv").write_text(
            "frames,speed/frames_per_second,speed/updates_per_second\n10000,99,0\n20000,16000,1600\n20000,,\n"
        )
        width = int(re.findall(r"_w(\d+)_", name)[0])
        marks = {f: s for f, s in PUBLISHED.get(width, {until: 0.0}).items() if f <= until}
        rows = [f"{f},{task},{s},1,500" for f, s in marks.items() for task in MT10]
        (folder / "eval.csv").write_text("\n".join(["frames,task,success,return,length", *rows]) + "\n")
        look()
        if until < session.args.frames:
            raise KeyboardInterrupt


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "OUTPUTS", tmp_path / "outputs")
    monkeypatch.setattr(gpu, "machine", lambda device: {"device": device.type})
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu.Session, "call", lambda self, *args: made.call(self, *args))
    monkeypatch.chdir(tmp_path)
    return made


def saved(out: str = "results/gpu") -> dict:
    return json.loads((Path(out) / "gpu.json").read_text())


def test_everything_and_again_nothing(machine: Machine, capsys: pytest.CaptureFixture) -> None:
    assert gpu.main(["--commit", "abc"]) == 0
    shown = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert [re.split(r" {2,}", line) for line in shown] == [
        ["check", "asked", "measured", "met"],
        ["tests that need a GPU", "at most 0 failed", "0 failed", "yes"],
        ["update, width 400, cudagraph", "at most 0.5 ms", "0.4 ms", "yes"],
        ["end to end, width 400", "at least 15,000 frames/s", "20,000 frames/s", "yes"],
        ["success, width 1024, 1,000,000 frames", "within 0.1 of 0.41", "0.41", "yes"],
        ["success, width 1024, 2,000,000 frames", "within 0.1 of 0.64", "0.64", "yes"],
        ["training, width 1024", "-", "16,000 frames/s", "not asked"],
        ["success, width 256, 1,000,000 frames", "within 0.1 of 0.28", "0.28", "yes"],
        ["success, width 256, 2,000,000 frames", "within 0.1 of 0.5", "0.5", "yes"],
        ["training, width 256", "-", "16,000 frames/s", "not asked"],
    ]
    parts = saved()["parts"]
    assert list(parts) == PARTS
    assert all(part["commit"] == "abc" and part["machine"] == {"device": "cuda"} for part in parts.values())
    assert all(
        {p.name for p in Path("results/gpu", run).iterdir()} == {"config.yaml", "eval.csv", "metrics.csv"}
        for run in RUNS
    )
    done = len(machine.commands)
    assert gpu.main([]) == 0 and len(machine.commands) == done


def test_cut_off_in_a_run(machine: Machine) -> None:
    """What was done is kept, half of the run included; the next call continues the run, and does the rest."""
    machine.until[RUNS[0]] = 1_000_000
    assert gpu.main([]) == 130
    before = saved()
    assert list(before["parts"]) == PARTS[:5] and before["parts"][RUNS[0]]["success"] == {"1000000": 0.41}
    assert [check["met"] for check in before["checks"] if "success" in check["name"]] == [True, None, None, None]
    machine.commands.clear()
    assert gpu.main([]) == 0
    assert machine.commands[0] == ["lit_mtrl", "fit", "frames=2000000", "--resume", f"outputs/gpu/{RUNS[0]}"]
    assert len(machine.commands) == 2 and saved()["parts"][RUNS[0]]["seconds"] == 2.0


def test_a_run_that_finished_unseen_is_not_trained_again(machine: Machine) -> None:
    assert gpu.main(["--skip", "tests", "bench"]) == 0
    (Path("results/gpu") / "gpu.json").unlink()
    machine.commands.clear()
    assert gpu.main(["--skip", "tests", "bench"]) == 0
    assert not machine.commands and saved()["parts"][RUNS[1]]["success"] == {"1000000": 0.28, "2000000": 0.5}


def test_a_part_that_fails_does_not_stop_the_others(machine: Machine) -> None:
    machine.codes = {"update": 1, "tests": 4}
    assert gpu.main([]) == 1
    parts = saved()["parts"]
    assert list(parts) == PARTS
    assert [name for name, part in parts.items() if "failed" in part] == ["tests", "update"]
    machine.codes = {}
    machine.commands.clear()
    assert gpu.main([]) == 0
    assert [command[0] for command in machine.commands] == ["pytest", "lit_mtrl"]
    assert not any("failed" in part for part in saved()["parts"].values())


def test_missed(machine: Machine, capsys: pytest.CaptureFixture) -> None:
    machine.rows["end_to_end"] = [{"overlap": True, "frames_per_second": 14_999.0}]
    machine.summary, machine.codes = "2 failed, 106 passed, 1 error in 60.00s", {"tests": 1}
    assert gpu.main(["--skip", "training"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"tests .* 3 failed +no\n", out) and re.search(r"end to end.* 14,999 frames/s +no\n", out)


def test_graphs_that_were_not_recorded_are_no_figure(machine: Machine, capsys: pytest.CaptureFixture) -> None:
    machine.said = "engine.mode=cudagraph: recording failed, updates run eagerly instead (reason)"
    gpu.main(["--skip", "training", "tests"])
    assert re.search(r"cudagraph .*ms +- +not measured\n", capsys.readouterr().out)


def test_again_drops_what_was_selected(machine: Machine) -> None:
    gpu.main([])
    machine.commands.clear()
    assert gpu.main(["--again", "--skip", "bench", "--widths", "256"]) == 0
    assert [command[:2] for command in machine.commands] == [["pytest", "-m"], ["lit_mtrl", "fit"]]
    assert "--resume" not in machine.commands[1] and len(saved()["parts"]) == 6


def test_more_frames_and_seeds(machine: Machine, capsys: pytest.CaptureFixture) -> None:
    gpu.main(["--skip", "tests", "bench", "--widths", "256", "--frames", "1_000_000"])
    machine.commands.clear()
    assert gpu.main(["--skip", "tests", "bench", "--widths", "256", "--seeds", "0", "1"]) == 0
    assert ["--resume" in command for command in machine.commands] == [True, False]
    assert re.search(r"1,000,000 frames, 2 seeds .* 0.28 +yes\n", capsys.readouterr().out)


def test_small_is_not_judged(machine: Machine, capsys: pytest.CaptureFixture) -> None:
    machine.rows["end_to_end"] = [{"overlap": True, "frames_per_second": 10.0}]
    assert gpu.main(["--small"]) == 0
    assert re.search(r"10 frames/s +not judged \(small\)\n", capsys.readouterr().out)
    found = saved("outputs/gpu_small/results")
    assert found["size"] == "gpu_small" and not any(check["met"] for check in found["checks"])


@pytest.mark.parametrize("args", [[], ["--small"]], ids=["full", "small"])
def test_commands_are_understood(machine: Machine, args: list[str]) -> None:
    gpu.main(args)
    size = SMALL if args else FULL
    assert machine.commands[0][:3] == ["pytest", "-m", "gpu"]
    for command in (machine.commands[1], machine.commands[-1]):
        parsed = _parse(command[1:])
        cfg = composed(parsed.config, parsed.overrides)
        assert cfg.env.engine == "native" and cfg.collector.overlap
        if parsed.command == "bench":
            assert (cfg.network.width, parsed.seconds) == (size.width, size.seconds)
        else:
            assert cfg.network.width in size.widths and (cfg.frames, cfg.seed) == (size.frames, 0)
            assert 2 * cfg.epoch_frames * cfg.eval.every_epochs == cfg.frames
            assert cfg.output_dir == f"outputs/{size.name}/mt10_mtmhsac_fast_w{cfg.network.width}_s0"
            assert args or (cfg.eval.episodes, cfg.engine.precision, cfg.replay.per_task) == (50, "fp32", 128)


BAD = {
    "no GPU": (["--seeds", "0"], "--small"),
    "part": (["--small", "--skip", "bnch"], "bnch"),
    "width": (["--small", "--widths", "0"], "--widths 0"),
    "frames": (["--small", "--frames", "7_000"], "--frames 7000: give a multiple of 5,000"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    args, said = BAD[case]
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    assert gpu.main(args) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err
    assert not list(machine.root.iterdir())


def test_small_and_full_do_not_share_a_folder(machine: Machine, capsys: pytest.CaptureFixture) -> None:
    gpu.main(["--small", "--out", "here", "--skip", "training"])
    assert gpu.main(["--out", "here"]) == 2
    assert "--out here: holds the results of gpu_small, not of gpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("check", "met"),
    [
        (Check("", "at most", 0.5, 0.5), True),
        (Check("", "at most", 0.5, 0.51), False),
        (Check("", "at least", 15_000, 15_000), True),
        (Check("", "at least", 15_000, 14_999), False),
        (Check("", CLOSE, 0.41, 0.51), True),
        (Check("", CLOSE, 0.41, 0.31), True),
        (Check("", CLOSE, 0.41, 0.512), False),
        (Check("", CLOSE, 0.41, 0.308), False),
        (Check("", CLOSE, None, 0.3), None),
        (Check("", CLOSE, 0.41, None), None),
    ],
)
def test_judgement(check: Check, met: bool | None) -> None:
    assert check.met is met


def test_published_figures_are_those_of_the_report() -> None:
    table = load(["mclean2025"]).query("benchmark == 'mt10' and method == 'MTMHSAC' and metric == 'success'")
    for width, marks in PUBLISHED.items():
        for frames, value in marks.items():
            rows = table[(table["width"] == width) & ((table["frames"] - frames).abs() < 5_000)]
            assert rows["value"].tolist() == pytest.approx([value], abs=0.01)


def test_an_evaluation_that_is_being_written_does_not_count(tmp_path: Path) -> None:
    rows = [f"{frames},{task},1.0" for frames in (10, 20) for task in MT10]
    (tmp_path / "eval.csv").write_text("\n".join(["frames,task,success", *rows[:-1], "20,window-close"]))
    assert success(tmp_path) == {"10": 1.0}
    assert success(tmp_path / "nowhere") == {}


def test_failures_are_counted() -> None:
    assert gpu._count_failures("96 failed, 12 skipped, 2 errors in 17.32s") == 98
    assert gpu._count_failures("108 passed in 17.32s") == 0
    assert gpu._count_failures("12 skipped, 3 deselected in 0.1s") is None


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> gpu.Session:
    monkeypatch.setattr(gpu, "OUTPUTS", tmp_path)
    monkeypatch.setattr(gpu, "POLL", 0.01)
    return gpu.Session(SimpleNamespace(out=str(tmp_path)), FULL)  # pyright: ignore[reportArgumentType]


def test_a_part_is_a_process_with_a_log(session: gpu.Session, capsys: pytest.CaptureFixture) -> None:
    entry: gpu.Entry = {"seconds": 1000.0}
    looked: list[float] = []
    code = session.call(
        "x", entry, ["timeit", "-n", "1", "-r", "1", "raise KeyError('no')"], lambda: looked.append(entry["seconds"])
    )
    assert code == 1 and entry["command"].startswith("python -m timeit -n 1")
    assert "KeyError: 'no'" in session.log("x").read_text() and "KeyError: 'no'" in capsys.readouterr().out
    assert looked and 1000 < looked[0] < entry["seconds"] < 1010


def test_a_part_ends_with_what_called_it(session: gpu.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = gpu.subprocess.Popen
    monkeypatch.setattr(
        gpu.subprocess, "Popen", lambda *args, **options: started.append(popen(*args, **options)) or started[0]
    )

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.call("x", {}, ["timeit", "-n", "1", "-r", "1", "import time; time.sleep(60)"], interrupt)
    assert started[0].returncode == -9


@pytest.mark.slow
def test_small_for_real(tmp_path: Path) -> None:
    args = ["--small", "--skip", "tests", "--widths", "16", "--frames", "5_000", "--out", str(tmp_path / "out")]
    try:
        assert gpu.main([*args, "--again"]) == 0
    finally:
        shutil.rmtree(gpu.OUTPUTS / SMALL.name / "mt10_mtmhsac_fast_w16_s0", ignore_errors=True)
    parts = json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]
    assert all(len(parts[section]["result"]) > 1 for section in gpu.SECTIONS)
    assert list(parts["mt10_mtmhsac_fast_w16_s0"]["success"]) == ["5000"]
