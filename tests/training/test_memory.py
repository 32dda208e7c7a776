"""The memory of gradients: where numbers lie, how they are clipped, and who gets them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lit_mtrl.algos.base import Objective
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.training.memory import ALIGNED, ROW, GradientMemory, allocate
from lit_mtrl.training.metrics import norm
from tests.helpers.updates import ADAM


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(shape)) for shape in shapes]


def test_every_gradient_begins_where_a_cache_line_does() -> None:
    own = parameters((2, 3), (ALIGNED,), (1,))
    memory = GradientMemory(own)
    memory.take([torch.full_like(p, i + 1) for i, p in enumerate(own)])
    want = torch.zeros(ROW)
    want[:6], want[ALIGNED : 2 * ALIGNED], want[2 * ALIGNED] = 1, 2, 3
    assert torch.equal(memory.flat, want)
    memory.hand_over()
    for i, p in enumerate(own):
        assert p.grad is not None and p.grad.is_contiguous() and torch.equal(p.grad, torch.full_like(p, i + 1))
        assert p.grad.untyped_storage().data_ptr() == memory.flat.untyped_storage().data_ptr()


@pytest.mark.parametrize(("limit", "factor"), [(None, 1), (20.0, 1), (6.5, 0.5)])
def test_clipping_is_to_the_joint_norm(limit: float | None, factor: float) -> None:
    own = parameters((1,), (2,))
    memory = GradientMemory(own)
    memory.take([torch.tensor([3.0]), torch.tensor([-4.0, 12.0])])
    assert float(memory.clip(limit)) == 13
    memory.hand_over()
    grads = [p.grad.tolist() for p in own if p.grad is not None]
    assert grads == [[3 * factor], [-4 * factor, 12 * factor]]


def test_norms_of_millions_are_exact() -> None:
    """Mostly in one tensor, as where networks are wide."""
    own = parameters((3000, 3000), (1000, 1000), (7,))
    memory, generator = GradientMemory(own), torch.Generator().manual_seed(0)
    gradients = [torch.randn(p.shape, generator=generator) for p in own]
    exact = sum(float(g.double().square().sum()) for g in gradients) ** 0.5
    memory.take(gradients)
    for found in (memory.clip(1.0), norm(gradients)):
        assert abs(float(found) / exact - 1) < 1e-6
    memory.hand_over()
    clipped = sum(float(p.grad.double().square().sum()) for p in own if p.grad is not None) ** 0.5
    assert abs(clipped - 1) < 1e-6


def objectives(*params: list[nn.Parameter]) -> list[Objective]:
    return [Objective(f"o{i}", None, tuple(p), ADAM) for i, p in enumerate(params)]


def test_shared_parameters_get_the_sum() -> None:
    """Two objectives, each clipped by itself; the second does not touch what they share."""
    common, first, second = parameters((2,), (1,), (3,))
    shared = Objective("shared", None, (common,), ADAM)
    memories = allocate(objectives([first], [second]), shared, Ranks(), None)
    one, two, total = (memories[name] for name in ("o0", "o1", "shared"))
    one.fill(3 * common[0] + 4 * first.sum())
    assert float(one.clip(2.5)) == 5
    one.hand_over()
    assert first.grad is not None and first.grad.tolist() == [2]
    one.fill(common.sum() + first.sum())
    one.hand_over()
    two.fill(second.sum())
    two.hand_over()
    assert second.grad is not None and second.grad.tolist() == [1, 1, 1]
    total.hand_over()
    assert common.grad is not None and common.grad.tolist() == [2.5, 1]


def test_what_others_left_in_the_memory_counts_in_no_norm() -> None:
    """The first objective fills the memory; the second needs less of it, with padding at other places."""
    common, first, small, large = parameters((2,), (3 * ROW,), (1,), (ALIGNED + 1,))
    shared = Objective("shared", None, (common,), ADAM)
    memories = allocate(objectives([first], [small, large]), shared, Ranks(), None)
    one, two, total = (memories[name] for name in ("o0", "o1", "shared"))
    one.fill(common.sum() + 1e3 * first.sum())
    one.hand_over()
    assert two.flat.count_nonzero() == ROW - ALIGNED + 2
    two.fill(4 * common.sum() + 8 * small.sum() + 2 * large[-1])
    assert float(two.clip(5.0)) == 10  # the root of 16 + 16 + 64 + 4
    assert two.flat.count_nonzero() == 4
    two.hand_over()
    total.hand_over()
    assert common.grad is not None and common.grad.tolist() == [3, 3]
    assert small.grad is not None and small.grad.tolist() == [4]
    assert large.grad is not None and large.grad.tolist() == [0] * ALIGNED + [1]


def test_what_is_not_shared_must_be_touched() -> None:
    used, unused = parameters((1,), (1,))
    with pytest.raises(RuntimeError, match="not have been used"):
        GradientMemory([used, unused]).fill(used.sum())


def test_gradients_may_come_from_elsewhere() -> None:
    """As from PyTorch's DDP, which leaves averages in ``.grad``, and nothing where a loss does not reach."""
    used, unused = parameters((1,), (1,))
    used.grad = unused.grad = torch.tensor([5.0])

    def backward(total: Tensor) -> None:
        (total / 2).backward()

    memory = GradientMemory([used, unused], backward=backward)
    memory.fill(4 * used.sum())
    memory.hand_over()
    assert used.grad.tolist() == [2] and unused.grad.tolist() == [0]


class Two(Ranks):
    """The other rank's gradients are all zero."""

    def __init__(self) -> None:
        super().__init__(0, 2)
        self.calls = 0

    def mean_(self, tensor: Tensor) -> Tensor:
        self.calls += 1
        return tensor.div_(2)


def test_all_gradients_are_averaged_at_once() -> None:
    own, ranks = parameters((1,), (2,)), Two()
    memory = GradientMemory(own, ranks=ranks)
    memory.fill(own[0].sum() + 3 * own[1].sum())
    memory.hand_over()
    assert ranks.calls == 1
    assert [p.grad.tolist() for p in own if p.grad is not None] == [[0.5], [1.5, 1.5]]
