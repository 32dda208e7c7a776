"""A weighting of my own: tasks with a larger loss count more."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_mtrl.core.errors import require
from lit_mtrl.weighting.base import Weighting


class MyWeighting(Weighting):
    """Softmax of the losses' running means, divided by a temperature; weights sum to one.

    num_tasks: T, given by whoever needs a weighting.
    temperature, decay: your own, with the values of ``conf/weighting/my_weighting.yaml``.
    """

    # What `forward` gets. With reads_gramian = True also the inner products [T, T] of the tasks' gradients; more of
    # such switches are in lit_mtrl.weighting.base.
    reads_losses = True
    reads_gramian = False
    mean: Tensor

    def __init__(self, num_tasks: int, temperature: float = 1.0, decay: float = 0.99):
        super().__init__(num_tasks)
        require(temperature > 0, f"temperature={temperature}: temperatures are positive")  # one line, no traceback
        self.temperature, self.decay = temperature, decay
        # What it remembers from update to update is a buffer or a parameter, so that it is part of checkpoints.
        self.register_buffer("mean", torch.zeros(num_tasks))

    def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
        """The weights ``[T]``; the update then is one step along the gradient of ``(weights * losses).sum()``.

        losses: ``[T]``, one per task, without graph.
        gramian: None, or ``[T, T]`` if ``reads_gramian``.

        It must not wait for the device: no ``.item()``, no ``if`` on a tensor, and buffers change in place.
        """
        self.mean.mul_(self.decay).add_(losses, alpha=1 - self.decay)
        return (self.mean / self.temperature).softmax(0)
