"""Every network of ``conf/network`` and its variants, one test each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from tests.helpers.nets import CASES, maker, name_of


@pytest.fixture
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=CASES, ids=name_of)
def make(request: pytest.FixtureRequest) -> Callable[[], nn.Module]:
    torch.manual_seed(0)
    return maker(*request.param)
