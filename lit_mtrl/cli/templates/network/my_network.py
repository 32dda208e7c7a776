"""A network of my own: one hidden layer per task between shared ones.

It becomes the actor, the critics and their targets without more: an actor's output is the mean and the log-std of every
action, a critic's is a value, so write it for any ``in_dim`` and ``out_dim``.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from lit_mtrl.core.errors import require
from lit_mtrl.nets.layers import Dense, OneHotDense, TaskDense


class MyNetwork(nn.Module):
    """``[*batch, in_dim]`` and task to ``[*batch, out_dim]``.

    in_dim, out_dim, num_tasks: sizes, given by whoever needs a network.
    head_bound: weights and biases of the last layer start in U(-head_bound, head_bound); given, too.
    width, depth: your own, with the values of ``conf/network/my_network.yaml``; add as many as you like, with types.
    """

    def __init__(self, in_dim: int, out_dim: int, num_tasks: int, head_bound: float, width: int = 64, depth: int = 2):
        super().__init__()
        require(depth >= 1, f"network.depth={depth}: give at least one hidden layer")  # one line, no traceback
        self.first = OneHotDense(in_dim, width, num_tasks)  # sees the task as a one-hot beside x
        self.rest = nn.ModuleList(Dense(width, width) for _ in range(depth - 1))
        self.own = TaskDense(width, width, num_tasks, bound=width**-0.5)  # one layer per task
        self.head = Dense(width, out_dim, head_bound)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        """Two layouts, which must agree.

        x: ``[*batch, in_dim]``.
        task: ``[*batch]``, the task of each sample; None: x is ``[T, ..., in_dim]`` and row t belongs to task t, which
            is how batches come, and the fast one.
        """
        # The layers of lit_mtrl.nets.layers know both layouts. In layers of your own, `task_rows(table, x, task)` from
        # there gives each sample the row of a parameter [T, n] that belongs to its task: x * task_rows(...).
        x = F.relu(self.first(x, task))
        for layer in self.rest:
            x = F.relu(layer(x))
        x = F.relu(self.own(x, task))
        return self.head(x)
