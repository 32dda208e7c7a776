"""CARE: contextual attention-based representation (Sodhani et al., 2021).

NOTE 1: `context`: ``metadata`` is the paper's, a frozen sentence embedding of the task's description through a
        two-layer projection; ``embedding`` learns the vector instead, as McLean et al. do. Their default is ours.
NOTE 2: actor and critics each own an encoder that their own loss trains, as in McLean et al.'s code. The original ties
        the encoder of actor and critic, trains it by the critic's loss alone, and moves its target with 0.05.
NOTE 3: experts: 6 for MT10 and 10 for MT50 in the paper; the original's documented commands use 4.
NOTE 4: the shipped metadata are ours: own descriptions, embedded by all-MiniLM-L6-v2, 384 wide (tools/embed_tasks.py);
        the original's are RoBERTa's, 768 wide.
NOTE 5: the context goes on linearly (no activation after its last layer), into the attention and the torso alike.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.envs.benchmarks import task_names
from lit_mtrl.nets.layers import TaskEmbedding, Torso, expert_mlp, make_head, mix, mlp, task_rows

CONTEXTS = ("embedding", "metadata")
METADATA = Path(__file__).parent / "metadata" / "metaworld.json"
PROJECTION = 100


class CARE(nn.Module):
    """``[*, in_dim]`` and task to ``[*, out_dim]``.

    A context per task gives attention over ``experts`` encoders of the observation; their weighted sum and the
    context, ``context_width`` each, go through ``depth`` layers of ``width`` and a linear head. ``heads``: ``single``
    (SH-CARE) or ``multi`` (MH-CARE). ``metadata``: a file like the shipped one, with an embedding for each of
    ``tasks`` (names in one-hot order, or the name of a benchmark), read for ``context=metadata`` only.
    """

    vectors: Tensor

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_tasks: int,
        head_bound: float,
        width: int = 400,
        depth: int = 3,
        experts: int = 6,
        expert_width: int = 50,
        context_width: int = 50,
        heads: str = "single",
        context: str = "embedding",
        metadata: str | None = None,
        tasks: Sequence[str] | str = (),
        temperature: float = 1.0,
    ):
        super().__init__()
        require(experts > 0, f"network.experts={experts}: give at least one")
        require(expert_width > 0, f"network.expert_width={expert_width}: give at least one unit per layer")
        require(context_width > 0, f"network.context_width={context_width}: give at least one unit")
        require(temperature > 0, f"network.temperature={temperature}: temperatures are positive")
        require(context in CONTEXTS, unknown("network.context", context, CONTEXTS))
        self.temperature = temperature
        if context == "metadata":
            names = task_names(tasks)
            require(
                len(names) == num_tasks,
                f"network.tasks: names {len(names)} tasks of {num_tasks}; leave it to the benchmark",
            )
            vectors = read_metadata(metadata or METADATA, names)
            self.source: nn.Module = mlp(vectors.shape[1], PROJECTION, context_width)
        else:
            vectors = torch.empty(0)
            self.source = TaskEmbedding(num_tasks, context_width, std=context_width**-0.5)
        self.register_buffer("vectors", vectors)  # in checkpoints: the file may change
        self.context = mlp(context_width, expert_width, expert_width, context_width)
        self.attention = mlp(context_width, expert_width, expert_width, experts)
        self.experts = expert_mlp(experts, in_dim, expert_width, expert_width, context_width)
        self.torso = Torso(2 * context_width, 0, width, depth)
        self.head = make_head(heads, width, out_dim, num_tasks, head_bound)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        lead = x.shape[:-1]
        context, attention = self._context()
        weights = task_rows(attention, x, task).expand(*lead, -1)
        values = self.experts(x.reshape(-1, x.shape[-1]))
        encoded = mix(values, weights.reshape(-1, len(values))).view(*lead, -1)
        return self.head(self.torso(torch.cat([encoded, task_rows(context, x, task).expand(*lead, -1)], -1)), task)

    def task_mixture(self, x: Tensor) -> dict[str, Tensor]:
        """The tasks' attention over the experts, ``[T, k]``; ``x [T, n, in_dim]`` does not matter."""
        return {"attention": self._context()[1]}

    def _context(self) -> tuple[Tensor, Tensor]:
        """Context ``[T, c]`` and attention ``[T, k]``: they depend on the task alone, so T rows are enough."""
        source = self.source(self.vectors) if len(self.vectors) else self.source()
        context = self.context(F.relu(source))
        return context, (self.attention(context) / self.temperature).softmax(-1)


def read_metadata(path: str | Path, tasks: Sequence[str]) -> Tensor:
    """The embeddings ``[T, d]`` of ``tasks``; raises `ConfigError` for a file that is unreadable, lacks one, or has
    unequal widths.
    """
    require(Path(path).is_file(), f"network.metadata={path}: no such file; null takes the shipped one")
    try:
        content = json.loads(Path(path).read_text())
        rows = {name: [float(x) for x in entry["embedding"]] for name, entry in content["tasks"].items()}
    except OSError as error:
        raise ConfigError(
            f"network.metadata={path}: cannot be read ({error.strerror}); null takes the shipped file"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f'network.metadata={path}: must hold {{"tasks": {{"<task>": {{"embedding": [...]}}}}}}; see {METADATA.name}'
        ) from error
    missing = [name for name in tasks if name not in rows]
    require(
        not missing,
        f"network.metadata={path}: holds no embedding for {', '.join(missing)}; add them, or use"
        f" network.context=embedding",
    )
    widths = sorted({len(rows[name]) for name in tasks})
    require(
        len(widths) == 1 and widths[0] > 0,
        f"network.metadata={path}: embeddings have widths {', '.join(map(str, widths))}; all must have the same",
    )
    vectors = [rows[name] for name in tasks]
    finite = all(map(math.isfinite, itertools.chain(*vectors)))
    require(finite, f"network.metadata={path}: holds numbers that are not finite; embed it again")
    return torch.tensor(vectors)
