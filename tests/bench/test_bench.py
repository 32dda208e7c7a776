"""The ``bench`` command: what it counts and in which order, its JSON, and that bad input is one line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from lit_mtrl.bench import bare, collection, end_to_end, limits, peer, timing, update
from lit_mtrl.bench.measure import Options, bench
from lit_mtrl.bench.products import record, replay
from lit_mtrl.bench.table import table
from lit_mtrl.bench.timing import ratio, turns
from lit_mtrl.bench.variants import engines, with_engine, with_network
from lit_mtrl.config.compose import compose
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.runs.build import build_algorithm, build_suite
from tests.helpers.command import run


class Here:
    """`bare.Cores` in this process."""

    def __init__(self, suite, workers: int, copies: int = 1, actor=None):
        self._jobs = bare.jobs(suite, list(range(len(suite.tasks))), copies, actor)

    def run(self, what: str, steps: int) -> None:
        self._jobs[what](steps)

    def close(self) -> None:
        pass


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One core, one mode, small memory; no other process is started."""
    for module in (limits, collection, end_to_end):
        monkeypatch.setattr(module, "Cores", Here)
    for module, name, value in [
        (limits, "COPIED", 2**16),
        (limits, "SIDE", {"cpu": 16}),
        (update, "MODES", ("eager", "cudagraph")),
        (end_to_end, "STORED", 100),
    ]:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    monkeypatch.chdir(tmp_path)
    return tmp_path


BATCH, SIZES = 6, (5, 7, 3)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


def flops(call: Callable[[], object]) -> int:
    return sum(product.flops for product in record(call))


def test_products_of_a_forward_pass() -> None:
    net, x = mlp(), torch.randn(BATCH, 5)
    assert flops(lambda: net(x)) == 2 * BATCH * (5 * 7 + 7 * 3)


def test_products_of_a_backward_pass() -> None:
    """A gradient for every weight, and for the input of the second layer."""
    net, x = mlp(), torch.randn(BATCH, 5)
    forward = 2 * BATCH * (5 * 7 + 7 * 3)
    assert flops(lambda: net(x).sum().backward()) == 2 * forward + 2 * BATCH * 7 * 3


def test_products_of_batches() -> None:
    a, b, bias = torch.randn(4, 2, 3), torch.randn(4, 3, 5), torch.randn(4, 2, 5)
    assert flops(lambda: a @ b) == flops(lambda: torch.baddbmm(bias, a, b)) == 4 * 2 * 2 * 3 * 5
    assert flops(lambda: a + a) == 0
    assert flops(lambda: torch.randn(3, 4) @ torch.randn(4)) == 2 * 3 * 4


def test_products_of_an_update() -> None:
    """SAC by hand: the task's one-hot is added as a row of the first weights, not multiplied."""
    cfg = compose(["debug"], ["network=mlp", "network.width=16", "network.depth=2"])
    engine, chunk = update.learner(cfg, "eager", 8, 1)
    each = 2 * 3 * 8  # for each entry of a matrix of weights
    actor, critics = each * (2 * 16 + 16 * 16 + 16 * 2), 2 * each * (3 * 16 + 16 * 16 + 16)
    target = actor + critics
    critic_loss = 2 * critics + 2 * each * (16 * 16 + 16)  # forward, weights, inputs of all but the first layer
    # The critics' weights get no gradients here, the action does.
    actor_loss = 2 * actor + each * (16 * 16 + 16 * 2) + 2 * critics
    assert flops(lambda: engine.update(chunk[0])) == target + critic_loss + actor_loss


def test_replay_does_the_same_work() -> None:
    net, x = mlp(), torch.randn(BATCH, 5)
    products = record(lambda: net(x).sum().backward())
    play = replay(products)
    assert sorted(record(play)) == sorted(products)
    before = [p.clone() for p in net.parameters()]
    play()
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_turns_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    called: list[str] = []

    def call(name: str, seconds: float) -> Callable[[], None]:
        def tick() -> None:
            called.append(name)
            clock[0] += seconds

        return tick

    times = turns({"a": call("a", 0.25), "b": call("b", 1.0)}, seconds=5.0)
    assert times == {"a": [0.25] * 5, "b": [1.0] * 5}
    assert called[:4] == ["a", "a", "b", "b"]
    assert called[4:] == (["a"] * 4 + ["b"]) * 5
    assert ratio(times, "b", "a") == 4


def test_turns_end_early(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def slow() -> None:
        clock[0] += 10

    assert len(turns({"slow": slow}, seconds=1.0)["slow"]) == 1


def test_table() -> None:
    rows = [
        {"name": "one", "frames": 12345.6, "of_bare": None, "outside_share": 0.0512, "on": True},
        {"name": "a longer one", "frames": 1.23456, "of_bare": 0.5, "outside_share": 0.0, "on": False},
    ]
    assert table(rows).splitlines() == [
        "name          frames  of_bare  outside_share   on",
        "one           12,346        -           5.1%  yes",
        "a longer one    1.23    50.0%           0.0%   no",
    ]


def test_variants() -> None:
    cfg = compose(["mt10_mtmhsac"], ["env.horizon=200", "actor.network.width=32"])
    other = with_engine(cfg, "python")
    assert (cfg.env.engine, other.env.engine, other.env.horizon) == ("native", "python", 200)
    assert engines(cfg) == ["native", "python"] and engines(compose(["debug"], [])) == ["probes"]
    assert engines(compose(["mt10_mtmhsac"], ["env.rewards=v1"])) == ["python"]
    assert with_network(cfg, "multi_head") is cfg
    moore = with_network(compose(["debug"], []), "moore")
    assert type(build_algorithm(moore, build_suite(moore)).actor.net).__name__ == "MOORE"


def test_all_sections(small: Path) -> None:
    code, out, err = run(
        "bench", "--config", "debug", "--seconds", "0.01", "--networks", "multi_head", "--json", "x.json"
    )
    assert (code, err) == (0, "")
    found = json.loads((small / "x.json").read_text())
    assert [path.name for path in small.iterdir()] == ["x.json"]
    assert found["machine"].keys() == {"processor", "cores", "threads", "torch", "device", "load"}
    assert found["config"]["network"] == "multi_head" and found["seconds"] == 0.01 and found["notes"] == []
    assert {row["unit"] for row in found["limits"]} == {"frames/s", "GFLOP/s", "GB/s", "ms"}
    assert [(r["environments"], r["processes"], r["per_task"]) for r in found["collection"]] == [
        ("probes, bare", 1, 1),
        ("probes, bare", 1, 4),
        ("probes", 1, 1),
        ("probes", 1, 4),
    ]
    assert [(r["network"], r["mode"], r["per_task"]) for r in found["update"]] == [
        ("multi_head", "eager", 8),
        ("multi_head", "eager", 16),
    ]
    assert all(row["times_products"] > 1 for row in found["update"])
    for row in found["end_to_end"]:
        parts = [row[f"{part}_ms"] for part in end_to_end.PARTS]
        assert min(parts) > 0 and row["host_mib"] > 50
        assert row["updates_per_second"] == pytest.approx(row["frames_per_second"] / 3)
        if not row["overlap"]:
            rest = 1 - sum(parts) / row["iteration_ms"]
            assert row["outside_share"] == pytest.approx(rest)
    for value in (row["frames_per_second"] for row in [*found["collection"], *found["end_to_end"]]):
        assert value > 0
    for title in ("limits", "collection", "update", "end to end"):
        assert f"\n\n{title}: " in out


def test_only_some_sections_and_overrides_after_names(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``--networks`` the configured one has two batches, the others one."""
    monkeypatch.setattr("lit_mtrl.bench.measure.groups", lambda: {"network": ["mlp", "multi_head"]})
    monkeypatch.setattr(update, "UPDATES", {"cpu": 1})
    args = ["--config", "debug", "--seconds", "0.01", "--only", "update", "network=mlp", "replay.per_task=4"]
    code, out, err = run("bench", *args)
    assert (code, err) == (0, "")
    assert "limits" not in out and "network mlp, per_task 4" in out
    rows = [line.split()[:3] for line in out.splitlines() if " eager " in line]
    assert rows == [["mlp", "eager", "4"], ["mlp", "eager", "8"], ["multi_head", "eager", "4"]]


FAKES = {
    "jax": "device_put = block_until_ready = lambda x: x",
    "metaworld_algorithms/config/networks": "ContinuousActionPolicyConfig = QValueFunctionConfig = dict",
    "metaworld_algorithms/config/nn": "MultiHeadConfig = dict",
    "metaworld_algorithms/config/optim": "OptimizerConfig = dict",
    "metaworld_algorithms/types": "ReplayBufferSamples = lambda *arrays: [a.shape for a in arrays]",
    "metaworld_algorithms/envs": """
        from pathlib import Path
        print("libraries talk")

        def note(what):
            with Path(__file__).with_name("notes").open("a") as file:
                print(what, file=file)

        class MetaworldConfig(dict):
            def spawn(self, seed):
                note(self)
                return self

            def reset(self):
                return 0, {}

            def step(self, action):
                note(f"step {action}")
                return action, 0, False, False, {}

            def close(self):
                note("closed")
        """,
    "metaworld_algorithms/rl/algorithms": """
        from metaworld_algorithms.envs import note
        MTSACConfig = dict

        class MTSAC:
            updates = 0

            def initialize(config, env, seed):
                note(config)
                return MTSAC()

            def sample_action(self, obs):
                return self, obs + 1

            def update(self, data):
                new = MTSAC()
                new.updates = self.updates + 1
                note(f"update {new.updates} {data[0]}")
                return new, {}
        """,
}


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A Python with a fake peer, which notes what it is asked for."""
    for name, text in FAKES.items():
        path = tmp_path / "fakes" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}/fakes exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return str(program)


def test_the_peer_does_what_it_is_asked_for(python: str, tmp_path: Path) -> None:
    cfg = compose(["mt10_mtmhsac"], ["network.width=8", "replay.per_task=16"])
    peer.require_peer(cfg, python)
    theirs = peer.Theirs(cfg, python)
    theirs.do("update")
    theirs.do("collect")
    theirs.do("update")
    theirs.close()
    optimizer = {"max_grad_norm": 1.0}
    network = {"network_config": {"num_tasks": 10, "width": 8, "depth": 3, "optimizer": optimizer}}
    notes = (tmp_path / "fakes/metaworld_algorithms/notes").read_text().splitlines()
    assert notes == [
        str({"num_tasks": 10, "actor_config": network, "critic_config": network}),
        str({"env_id": "MT10", "max_episode_steps": 500}),
        *(f"update {n} (160, 49)" for n in (1, 2)),
        *(f"step {n}" for n in range(1, 11)),
        *(f"update {n} (160, 49)" for n in (3, 4)),
        "closed",
    ]


def test_a_peer_that_dies_is_quoted(python: str, tmp_path: Path) -> None:
    (tmp_path / "fakes/metaworld_algorithms/config/nn.py").write_text("raise RuntimeError('no such luck')")
    with pytest.raises(RuntimeError, match="exit code 1(.|\n)*no such luck"):
        peer.Theirs(compose(["mt10_mtmhsac"], []), python)


def test_a_peer_that_dies_later_is_quoted(python: str) -> None:
    theirs = peer.Theirs(compose(["mt10_mtmhsac"], []), python)
    with pytest.raises(RuntimeError, match="no attribute 'sing'"):
        theirs.do("sing")
    theirs.close()


def test_times_of_the_peer(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours are frames of the suite or milliseconds of an update, and a ratio above 1 says that we are faster."""

    class Instant:
        def __init__(self, cfg: DictConfig, python: str):
            pass

        def do(self, what: str) -> None:
            pass

        def close(self) -> None:
            closed.append(self)

    closed: list[Instant] = []
    monkeypatch.setattr(peer, "Theirs", Instant)
    rows = peer.peer(compose(["debug"], []), 0.01, "python")
    assert len(closed) == 1
    assert [(row["what"], row["ours_by"], row["unit"]) for row in rows] == [
        ("collection", "probes, 1 per task", "frames/s"),
        ("collection", "probes, 4 per task", "frames/s"),
        ("update", "eager", "ms"),
    ]
    assert rows[0]["ours"] < rows[0]["peer"] and rows[2]["ours"] > rows[2]["peer"]
    assert all(0 < row["times_peer"] < 0.1 for row in rows)


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("nowhere/python", [], "No such file or directory; name a Python that has metaworld_algorithms"),
        (sys.executable, [], "cannot import metaworld_algorithms (ModuleNotFoundError: No module named"),
        (sys.executable, ["network=mlp"], "algo=sac network=multi_head critic=twin on one of mt10"),
        (sys.executable, ["benchmark=custom", "benchmark.tasks=[reach]"], "on one of mt10, mt25, mt50"),
    ],
    ids=["program", "package", "network", "benchmark"],
)
def test_what_cannot_be_compared(name: str, overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as error:
        bench(compose(["mt10_mtmhsac"], overrides), Options(peer=name), print)
    assert str(error.value).startswith("--peer") and "\n" not in str(error.value)


def test_the_peer_alone_must_be_named(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ConfigError, match="--only peer: name a Python that has metaworld_algorithms with --peer"):
        bench(compose(["debug"], []), Options(only=["update", "peer"]), print)
    assert not capsys.readouterr().out


BAD = {
    "section": (["--only", "limts"], "--only=limts: unknown; did you mean 'limits'"),
    "network": (["--networks", "multihead"], "--networks=multihead: unknown; did you mean 'multi_head'"),
    "seconds": (["--seconds", "0"], "--seconds=0"),
    "folder": (["--json", "nowhere/x.json"], "--json nowhere/x.json: there is no such folder"),
    "key": (["network.widht=3"], "did you mean 'network.width'"),
    "option": (["--compar"], "did you mean '--compare'"),
    "peer": (["--only", "peer"], "--peer"),
    "peer's Python": (["--only", "peer", "--peer", "nowhere"], "--peer nowhere"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args, said = BAD[case]
    monkeypatch.chdir(tmp_path)
    code, out, err = run("bench", *args)
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1 and said in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_meta_world_in_processes(tmp_path: Path) -> None:
    """Physics is faster than the official step, and so is the compiled one; a run has all parts."""
    task = ["benchmark=custom", "benchmark.tasks=[reach,push]", "network.width=32", "replay.per_task=16"]
    code, _, err = run(
        *("bench", "--seconds", "1", "--compare", "--json", f"{tmp_path}/x.json"),
        *("--only", "limits", "collection", "end_to_end", *task),
    )
    assert code == 0, err
    found = json.loads((tmp_path / "x.json").read_text())
    rate = {row["limit"].split(",")[0]: row["value"] for row in found["limits"]}
    assert min(rate["5 mj_step + mj_forward"], rate["native step"]) > rate["python step"]
    rows = {(row["environments"], row["per_task"]): row for row in found["collection"]}
    assert rows["AsyncVectorEnv", 1]["times_async"] == 1
    assert all(0 < row["of_bare"] < 1.2 for row in found["collection"] if row["of_bare"])


def test_what_learns_from_other_batches_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = compose([], ["env=probes", "benchmark=custom", "replay=rollout", "network.width=8"])
    with pytest.raises(ConfigError, match=r"^algo=sac: .*; use --only limits collection$"):
        bench(cfg, Options(only=["update"]), print)
    monkeypatch.setattr("lit_mtrl.bench.measure.collection", lambda *_: [{"environments": "probes"}])
    found = bench(cfg, Options(only=["collection"]), lambda text: None)
    assert found["collection"] and "per_task" not in found["config"]
