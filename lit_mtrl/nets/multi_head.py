"""Multi-head feed-forward network: a shared torso, one linear head per task ("MTMHSAC" in McLean et al., 2025).

NOTE 1: as in McLean et al.'s code, the one-hot is fed to the torso too, in addition to selecting the head.
"""

from __future__ import annotations

from torch import Tensor, nn

from lit_mtrl.nets.layers import TaskDense, Torso


class MultiHead(nn.Module):
    """``[*, in_dim]`` and task to ``[*, out_dim]``; parameters as in `MLP`, with ``num_tasks`` heads."""

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
        self.heads = TaskDense(width, out_dim, num_tasks, head_bound)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        return self.heads(self.torso(x, task), task)
