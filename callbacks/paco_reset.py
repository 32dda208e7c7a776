"""PaCo's w-reset: a task whose loss exploded gets a new compositional vector (Sun et al., 2022, section 4.2).

NOTE 1: w of an exploded task becomes a convex combination of the healthy tasks' w, its coefficients uniform on the
        simplex as in the paper; the authors' code draws U(0, 1) and divides by the sum, which prefers the middle. Each
        exploded task draws its own.
NOTE 2: it acts after an iteration, that is after ``collector.steps`` vector steps' updates; with ``collector.steps=1``
        after every update, as published. In between, the mask-out keeps the task out of every loss.
NOTE 3: with all tasks exploded there is nothing to combine: nothing is reset. (The authors' code would set zeros.)
NOTE 4: the optimizer's moments of that w stay, as in the authors' code; `clear_moments` sets them to zero.
"""

from __future__ import annotations

import logging
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.nets.paco import PaCo
from lit_mtrl.training.agent import Agent
from lit_mtrl.training.callback import Callback

METHODS = ("interpolate", "copy")

log = logging.getLogger("lit_mtrl")


class PaCoReset(Callback):
    """Resets w of every task that the last iteration's mask-out left out (``algo.mask_out``), in all networks that have
    one.

    Counts per task go to the loggers as ``paco_reset/<task>`` at epoch ends, and into checkpoints.

    method: ``interpolate`` between the w of all healthy tasks, as published, or ``copy`` that of one, drawn at random.
    clear_moments: also forget the optimizer's moments of a w that is reset; the authors' code keeps them.
    """

    key = "callbacks.paco_reset"

    def __init__(self, method: str = "interpolate", clear_moments: bool = False):
        super().__init__()
        require(method in METHODS, unknown(f"{self.key}.method", method, METHODS))
        self.method, self.clear_moments = method, clear_moments
        self.counts: dict[str, int] = {}
        self.skipped = 0

    def check(self, agent: Agent) -> None:
        """`ConfigError` without a mask-out that finds exploded tasks, or without a w."""
        threshold = getattr(agent.algorithm, "mask_out", None)
        require(
            threshold is not None,
            f"{self.key}: resets what the mask-out finds; give a threshold, such as algo.mask_out=3e3",
        )
        found = bool(_compositions(agent.algorithm))
        require(found, f"{self.key}: no network has a w; use it with network=paco")

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Agent, *args: Any) -> None:
        masked = [shares for key, shares in pl_module.iteration.items() if key.endswith("/masked")]
        exploded = [i for i, shares in enumerate(zip(*masked, strict=True)) if any(share > 0 for share in shares)]
        if exploded:
            self.reset(pl_module, exploded)

    def reset(self, agent: Agent, exploded: list[int]) -> None:
        """Give the tasks ``exploded`` a new w and count it."""
        healthy = [i for i in range(len(agent.tasks)) if i not in exploded]
        if not healthy:
            self.skipped += 1
            if self.skipped == 1:
                log.warning("%s frames: the losses of all tasks exploded; PaCo's w is left as it is", agent.frames)
            return
        beta = agent.ranks.first(self._coefficients(len(exploded), len(healthy)))
        parameters = _compositions(agent.algorithm)
        for w in parameters:
            reset_rows(w, exploded, healthy, beta)
        if self.clear_moments and agent.engine is not None:
            clear_moments(list(agent.engine.optimizers.values()), parameters, exploded)
        for i in exploded:
            name = agent.tasks[i]
            self.counts[name] = self.counts.get(name, 0) + 1
            if self.counts[name] == 1:
                log.info("%s frames: first reset of PaCo's w of %s", f"{agent.frames:,}", name)

    def _coefficients(self, exploded: int, healthy: int) -> Tensor:
        """``[exploded, healthy]``, rows on the simplex, from PyTorch's global stream, which checkpoints keep."""
        if self.method == "copy":
            return nn.functional.one_hot(torch.randint(healthy, (exploded,)), healthy).float()
        exponential = -torch.log1p(-torch.rand(exploded, healthy))
        return exponential / exponential.sum(-1, keepdim=True)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        if self.counts:
            metrics = {f"paco_reset/{task}": float(count) for task, count in self.counts.items()}
            self.log_metrics(trainer, metrics, pl_module.frames)
            text = ", ".join(f"{task} {count}" for task, count in self.counts.items())
            log.info("%s frames: resets of PaCo's w so far: %s", f"{pl_module.frames:,}", text)

    def state_dict(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.counts, self.skipped = dict(state_dict["counts"]), state_dict["skipped"]


@torch.no_grad()
def reset_rows(w: Tensor, exploded: list[int], healthy: list[int], beta: Tensor) -> None:
    """Rows ``exploded`` of ``w [*, T, K]`` become ``beta [exploded, healthy]`` times the rows ``healthy``; the others
    are not touched.
    """
    w[..., exploded, :] = beta.to(w) @ w[..., healthy, :]


def clear_moments(optimizers: list[torch.optim.Optimizer], parameters: list[nn.Parameter], rows: list[int]) -> None:
    """Set what ``optimizers`` remember of ``rows`` of ``parameters [*, T, K]`` to zero."""
    for optimizer in optimizers:
        for parameter in parameters:
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value[..., rows, :] = 0


def _compositions(algorithm: nn.Module) -> list[nn.Parameter]:
    """Every w, once: of the actor, the critics and their targets."""
    nets = [net for net in algorithm.modules() if isinstance(net, PaCo) and net.plain is None]
    return list(dict.fromkeys(net.w.weight for net in nets))
