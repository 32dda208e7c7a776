"""The state of this process's random numbers, as checkpoints keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def random_state(device: torch.device) -> dict[str, Tensor]:
    """PyTorch's on the host, and on ``device`` if that is a GPU."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def restore_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Go on from what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def saved_random_states(part: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    """Of each rank, from the agent's part of a checkpoint; of one rank, if that is from before there were ranks."""
    if "random" in part:
        return part["random"]
    return [{"cpu": part["rng"], **({"cuda": part["cuda_rng"][0]} if part["cuda_rng"] else {})}]
