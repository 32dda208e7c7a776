"""Which rank a process is, and on which device, before Lightning is asked; both agree, or it is one line."""

from __future__ import annotations

import pytest
import torch

from lit_mtrl.config.compose import compose
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.runs.ranks import learner_device, rank_of
from lit_mtrl.runs.run import Run

CPU = "trainer.accelerator=cpu"


@pytest.mark.parametrize(
    ("variables", "devices", "rank"),
    [({}, 2, 0), ({"LOCAL_RANK": "1"}, 2, 1), ({"LOCAL_RANK": "1"}, 1, 0), ({"RANK": "2", "LOCAL_RANK": "2"}, 3, 2)],
)
def test_rank(variables: dict[str, str], devices: int, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert rank_of(compose(["debug"], [f"trainer.devices={devices}"])) == rank


def test_more_ranks_than_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "7")
    with pytest.raises(ConfigError, match="trainer.devices=2: SLURM or torchrun has started rank 7"):
        rank_of(compose(["debug"], ["trainer.devices=2"]))


def test_other_numbers_of_ranks_than_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun starts them."""
    variables = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="trainer.devices=2: SLURM or torchrun has started 4 ranks"):
        Run(compose(["debug"], ["trainer.devices=2", CPU]))


def test_contradictions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a rank would write beside the first one, without its lock."""
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConfigError, match="RANK, LOCAL_RANK and SLURM_PROCID of rank 1 contradict each other"):
        Run(compose(["debug"], ["trainer.devices=2", CPU]))


@pytest.mark.parametrize(
    ("gpus", "overrides", "rank", "device"),
    [
        (0, [], 0, "cpu"),
        (2, [], 0, "cuda:0"),
        (2, ["trainer.devices=2"], 1, "cuda:1"),
        (2, [CPU, "trainer.devices=2"], 1, "cpu"),
        (1, ["trainer.accelerator=gpu"], 0, "cuda:0"),
    ],
)
def test_device(gpus: int, overrides: list[str], rank: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert learner_device(compose(["debug"], overrides), rank) == torch.device(device)


@pytest.mark.parametrize("overrides", [["trainer.accelerator=cuda"], ["trainer.accelerator=gpu", "trainer.devices=2"]])
def test_too_few_gpus(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="this machine has 0 GPUs; ask for no more, or for CPU ranks"):
        learner_device(compose(["debug"], overrides))
