"""Plain feed-forward network with one shared head ("MTSAC" in McLean et al., 2025)."""

from __future__ import annotations

from torch import Tensor, nn

from lit_mtrl.nets.layers import Dense, Torso


class MLP(nn.Module):
    """``[*, in_dim]`` and task to ``[*, out_dim]``: ReLU layers on ``concat(x, one_hot)``, one linear head.

    ``skip``, ``layer_norm``, ``task_input``, ``embedding_size``: see `Torso`. ``head_bound``: the head's weight and
    bias start in U(-head_bound, head_bound).
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_tasks: int,
        head_bound: float,
        width: int = 400,
        depth: int = 3,
        skip: bool = False,
        layer_norm: bool = False,
        task_input: str = "one_hot",
        embedding_size: int = 32,
    ):
        super().__init__()
        self.torso = Torso(in_dim, num_tasks, width, depth, skip, layer_norm, task_input, embedding_size)
        self.head = Dense(width, out_dim, head_bound)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        return self.head(self.torso(x, task))
