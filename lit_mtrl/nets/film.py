"""FiLM: feature-wise linear modulation by the task (Perez et al., 2018), as a multi-task network in McLean et al.
(2025).

NOTE 1: `modulation`: ``layer`` is one scale and one shift per layer, as in McLean et al.'s and Sodhani et al.'s code;
        ``feature`` is one per feature and layer, as Perez et al. define it.
NOTE 2: McLean et al. take the scales as the network's plain output, near 0.1 at the start, three times in a row: what
        distinguishes observations reaches the torso about a thousand times smaller than in CARE, and learning starts
        late. ``one_plus`` makes them 1 + gamma, as Perez et al. do. The default is McLean et al.'s.
NOTE 3: modulation follows the activation of the hidden layers, and the encoder's linear output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.nets.layers import Dense, TaskEmbedding, Torso, mlp, task_rows

MODULATIONS = ("layer", "feature")
LAYERS = 3


class FiLM(nn.Module):
    """``[*, in_dim]`` and task to ``[*, out_dim]``.

    An encoder of three layers, ``expert_width`` wide and ``context_width`` at its end, is scaled and shifted by the
    task after every layer; with the task's embedding beside it, it goes through ``depth`` layers of ``width`` and one
    head.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_tasks: int,
        head_bound: float,
        width: int = 400,
        depth: int = 3,
        expert_width: int = 50,
        context_width: int = 50,
        modulation: str = "layer",
        one_plus: bool = False,
    ):
        super().__init__()
        require(expert_width > 0, f"network.expert_width={expert_width}: give at least one unit per layer")
        require(context_width > 0, f"network.context_width={context_width}: give at least one unit")
        require(modulation in MODULATIONS, unknown("network.modulation", modulation, MODULATIONS))
        self.offset = 1.0 if one_plus else 0.0
        widths = [expert_width] * (LAYERS - 1) + [context_width]
        self.sizes = [1] * LAYERS if modulation == "layer" else widths
        self.embedding = TaskEmbedding(num_tasks, context_width, std=context_width**-0.5)
        self.modulation = mlp(context_width, expert_width, expert_width, 2 * sum(self.sizes))
        self.encoder = nn.ModuleList(Dense(a, b) for a, b in zip([in_dim, *widths], widths, strict=False))
        self.torso = Torso(2 * context_width, 0, width, depth)
        self.head = Dense(width, out_dim, head_bound)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        embedding = F.relu(self.embedding())  # [T, c]
        scales = self.modulation(embedding).split([2 * size for size in self.sizes], -1)
        context = task_rows(embedding, x, task).expand(*x.shape[:-1], -1)
        for i, (layer, scale) in enumerate(zip(self.encoder, scales, strict=True)):
            gamma, beta = task_rows(scale, x, task).chunk(2, -1)
            y = layer(x)
            x = (gamma + self.offset) * (F.relu(y) if i < LAYERS - 1 else y) + beta
        return self.head(self.torso(torch.cat([x, context], -1)))
