"""What the mixing networks promise: routing, orthogonality, attention, modulation, and parameter counts of the
papers.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.envs.benchmarks import MT10, MT50
from lit_mtrl.nets.care import CARE, METADATA, read_metadata
from lit_mtrl.nets.film import FiLM
from lit_mtrl.nets.layers import Torso
from lit_mtrl.nets.moore import MOORE, orthonormal
from lit_mtrl.nets.soft_modules import SoftModules

T, IN, OUT = 3, 6, 4


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_routing_starts_uniform_and_rows_sum_to_one(variant: str) -> None:
    k, depth = 4, 3
    net = SoftModules(IN, OUT, T, 1e-3, width=16, depth=depth, modules=k, embedding=20, variant=variant)
    x = torch.randn(T, 50, IN)
    for scale in (1.0, 1e4):
        for layer in net.routing:
            layer.weight.data.mul_(scale)  # pyright: ignore
        _, probabilities = net._route(x, None)
        sizes = [k * k] * (depth - 1) + ([k] if variant == "official" else [])
        assert [p.shape[-1] for p in probabilities] == sizes
        for p in probabilities:
            rows = p.view(-1, k)
            torch.testing.assert_close(rows.sum(-1), torch.ones(len(rows)))
            assert (abs(rows - 1 / k).max() < 0.02) == (scale == 1.0)
    mixture = net.task_mixture(x)
    names = ["routing layer 1", "routing layer 2", "routing output"]
    assert list(mixture) == names[: len(sizes)]
    torch.testing.assert_close(mixture["routing layer 1"].sum(-1), torch.ones(T, k))


def soft_modules_by_hand(net: SoftModules, o: torch.Tensor, task: int, paper: bool) -> torch.Tensor:
    """One sample through section 1.3 of the method, module by module."""

    def dense(layer, x):
        return layer.weight @ x + layer.bias

    k = len(net.last.weight)
    f = dense(net.features[2], dense(net.features[0], o).relu())
    z = net.task.weight[task] + net.task.bias  # pyright: ignore
    e = f * z if paper else dense(net.gate[2], dense(net.gate[0], (f * z).relu()).relu())  # pyright: ignore
    g = [f if paper else f.relu()] * k
    flat: list[torch.Tensor] = []
    for level, layer in enumerate(net.layers):
        x = e if level == 0 else e * dense(net.previous[level - 1], flat[-1] if paper else torch.cat(flat))
        p = dense(net.routing[level], x.relu()).view(k, k).softmax(1)
        flat.append(p.flatten())
        out = [g[j] @ layer.weight[j] + layer.bias[j] for j in range(k)]  # pyright: ignore
        if paper:
            g = [sum(p[i, j] * out[j].relu() for j in range(k)) for i in range(k)]
        else:
            g = [sum(p[i, j] * out[j] for j in range(k)).relu() for i in range(k)]  # pyright: ignore
    last = [g[j] @ net.last.weight[j] + net.last.bias[j] for j in range(k)]
    if paper:
        return sum(last)  # pyright: ignore
    x = e * dense(net.previous[-1], torch.cat(flat)) if flat else e
    p = dense(net.routing[-1], x.relu()).softmax(0)
    return dense(net.head, sum(p[j] * last[j] for j in range(k)).relu())  # pyright: ignore


@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize("variant", ["official", "paper"])
def test_soft_modules_by_hand(variant: str, depth: int) -> None:
    net = SoftModules(IN, OUT, T, 0.5, width=7, depth=depth, modules=3, embedding=9, variant=variant).double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    x = torch.randn(T, 2, IN, dtype=torch.float64)
    expected = [[soft_modules_by_hand(net, x[t, i], t, variant == "paper") for i in range(2)] for t in range(T)]
    torch.testing.assert_close(net(x), torch.stack([torch.stack(row) for row in expected]))


def test_orthonormal() -> None:
    vectors = torch.randn(4, 50, 30, dtype=torch.float64)
    basis = orthonormal(vectors)
    products = torch.einsum("ind,jnd->nij", basis, basis)
    torch.testing.assert_close(products, torch.eye(4, dtype=torch.float64).expand(50, 4, 4), rtol=0, atol=1e-6)
    q, r = torch.linalg.qr(vectors.permute(1, 2, 0))  # Gram-Schmidt is QR with a positive diagonal
    expected = (q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]).permute(2, 0, 1)
    torch.testing.assert_close(basis, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["equal", "zero", "parallel"])
def test_orthonormal_of_dependent_vectors(kind: str) -> None:
    u = torch.randn(3, 50, 30)
    if kind == "equal":
        u[1] = u[0]
    elif kind == "zero":
        u[1] = 0
    else:
        u[2] = 2 * u[0] - 3 * u[1]
    u.requires_grad_()
    basis = orthonormal(u)
    lengths = basis.norm(dim=-1).round(decimals=3).unique().tolist()
    assert set(lengths) <= {0.0, 1.0} and 0.0 in lengths  # what depends on the others is left out
    products = torch.einsum("ind,jnd->nij", basis, basis)
    assert (products - torch.diag_embed(products.diagonal(dim1=-2, dim2=-1))).abs().max() < 1e-4
    (basis * torch.randn_like(basis)).sum().backward()
    assert u.grad is not None and u.grad.isfinite().all()
    if kind != "zero":
        assert u.grad.abs().max() < 1e3


def test_moore_by_hand() -> None:
    net = MOORE(IN, OUT, T, 0.5, width=7, depth=2, experts=3).double()
    x = torch.randn(IN, dtype=torch.float64)
    first, second = net.experts[0], net.experts[2]
    for task in range(T):
        basis: list[torch.Tensor] = []
        for i in range(3):
            u = (x @ first.weight[i] + first.bias[i]).relu() @ second.weight[i] + second.bias[i]  # pyright: ignore
            v = u - sum(((u @ b) * b for b in basis), torch.zeros(7, dtype=torch.float64))
            basis.append(v / v.norm())
        hidden = sum(w * v for w, v in zip(net.mixture.weight[task], basis, strict=True)).tanh()  # pyright: ignore
        expected = hidden @ net.head.weight[task] + net.head.bias[task]  # pyright: ignore
        torch.testing.assert_close(net(x, torch.tensor(task)), expected)


def test_official_initialisation_of_moore() -> None:
    """PyTorch's defaults for experts, Glorot-uniform task weights (3 + 3 units) and heads (400 + 4)."""
    net = MOORE(IN, OUT, T, 1e-3, width=400, depth=2, experts=3, init="official").requires_grad_(False)
    bounds = {
        "experts.0.weight": IN**-0.5,
        "experts.0.bias": IN**-0.5,
        "experts.2.weight": 400**-0.5,
        "experts.2.bias": 400**-0.5,
        "mixture.weight": 1.0,
        "head.weight": (6 / 404) ** 0.5,
        "head.bias": 400**-0.5,
    }
    assert bounds.keys() == dict(net.named_parameters()).keys()
    for name, bound in bounds.items():
        assert 0.6 * bound < net.get_parameter(name).abs().max() <= bound, name


def test_initialisation_of_the_mclean_variants() -> None:
    """He-uniform with zero biases; embeddings N(0, 1/50); routing U(+-1e-3)."""
    care, film = (net(IN, OUT, 1000, 1e-3).requires_grad_(False) for net in (CARE, FiLM))
    for table in (care.source.weight, film.embedding.weight):
        assert abs(float(table.std()) - 50**-0.5) < 2e-3  # pyright: ignore
    expert = care.experts[0]
    assert 0.98 < float(expert.weight.abs().max()) / (6 / IN) ** 0.5 <= 1 and (expert.bias == 0).all()  # pyright: ignore
    routing = SoftModules(IN, OUT, T, 1e-3).requires_grad_(False).routing[0]
    assert routing.weight.abs().max() <= 1e-3 and (routing.bias == 0).all()  # pyright: ignore
    moore = MOORE(IN, OUT, 6, 1e-3).requires_grad_(False)
    assert 0.8 < float(moore.mixture.weight.abs().max()) <= 1


def test_care_by_hand() -> None:
    net = CARE(IN, OUT, T, 0.5, width=7, depth=2, experts=3, expert_width=5, context_width=4).double()
    x = torch.randn(IN, dtype=torch.float64)
    for task in range(T):
        z = net.context(net.source.weight[task].relu())  # pyright: ignore
        a = torch.softmax(net.attention(z), 0)
        encoded = torch.zeros(4, dtype=torch.float64)
        for i in range(3):
            h = x
            for j, layer in enumerate((net.experts[0], net.experts[2], net.experts[4])):
                h = h @ layer.weight[i] + layer.bias[i]  # pyright: ignore
                h = h.relu() if j < 2 else h
            encoded = encoded + a[i] * h
        expected = net.head(net.torso(torch.cat([encoded, z])))
        torch.testing.assert_close(net(x, torch.tensor(task)), expected)
    torch.testing.assert_close(net.task_mixture(x)["attention"].sum(-1), torch.ones(T, dtype=torch.float64))


@pytest.mark.parametrize("one_plus", [False, True])
@pytest.mark.parametrize("modulation", ["layer", "feature"])
def test_film_by_hand(modulation: str, one_plus: bool) -> None:
    sizes = dict(width=7, depth=2, expert_width=5, context_width=4)
    net = FiLM(IN, OUT, T, 0.5, **sizes, modulation=modulation, one_plus=one_plus).double()  # pyright: ignore
    x = torch.randn(IN, dtype=torch.float64)
    for task in range(T):
        embedding = net.embedding.weight[task].relu()
        numbers, h, at = net.modulation(embedding), x, 0
        for i, layer in enumerate(net.encoder):
            size = 1 if modulation == "layer" else (5, 5, 4)[i]
            gamma, beta, at = numbers[at : at + size], numbers[at + size : at + 2 * size], at + 2 * size
            y = layer(h)
            h = (one_plus + gamma) * (y.relu() if i < 2 else y) + beta
        assert at == len(numbers) == (6 if modulation == "layer" else 2 * 14)
        expected = net.head(net.torso(torch.cat([h, embedding])))
        torch.testing.assert_close(net(x, torch.tensor(task)), expected)


@pytest.mark.parametrize(("skip", "norm"), [(True, False), (False, True), (True, True)])
def test_skip_and_layer_norm_by_hand(skip: bool, norm: bool) -> None:
    torso = Torso(IN, 0, 7, 4, skip, norm).double()
    x = torch.randn(5, IN, dtype=torch.float64)
    h = (x @ torso.first.weight.T + torso.first.bias).relu()
    for layer in torso.rest:
        h = F.layer_norm(h, (7,)) if norm else h
        y = (h @ layer.weight.T + layer.bias).relu()  # pyright: ignore
        h = h + y if skip else y
    torch.testing.assert_close(torso(x), F.layer_norm(h, (7,)) if norm else h)


def test_task_embedding_by_hand() -> None:
    torso = Torso(IN, 3, 7, 1, task_input="embedding", embedding_size=4).double()
    assert torso.embedding is not None and torso.first.weight.shape == (7, IN + 4)
    rows = torso.embedding.weight / torso.embedding.weight.square().sum(1, keepdim=True).sqrt()
    x, task = torch.randn(5, IN, dtype=torch.float64), torch.tensor([2, 0, 1, 1, 2])
    seen = torch.cat([x, rows[task]], 1)
    torch.testing.assert_close(torso(x, task), (seen @ torso.first.weight.T + torso.first.bias).relu())
    torch.testing.assert_close(Torso(IN, 3, 7, 1).first.weight.shape, torch.Size([7, IN + 3]))


def test_shipped_metadata_hold_every_task() -> None:
    vectors = read_metadata(METADATA, MT50)
    assert vectors.shape[0] == 50 and vectors.isfinite().all()
    assert len(torch.unique(vectors, dim=0)) == 50
    assert torch.equal(read_metadata(METADATA, MT10)[0], vectors[MT50.index("reach")])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"tasks": {"a": {"embedding": [1, 2]}}}', "no embedding for b"),
        ('{"tasks": {"a": {"embedding": [1, 2]}, "b": {"embedding": [1]}}}', "widths 1, 2"),
        ('{"a": [1, 2]}', "must hold"),
        ('{"tasks": {"a": {"embedding": ["x"]}}}', "must hold"),
        ('{"tasks": {"a": {"embedding": [1]}, "b": {"embedding": [NaN]}}}', "not finite"),
        ("not json", "must hold"),
        (None, "no such file"),
    ],
)
def test_bad_metadata(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        CARE(IN, OUT, 2, 0.5, context="metadata", metadata=str(path), tasks=["a", "b"])
    assert "\n" not in str(caught.value)


def test_own_metadata(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps({"tasks": {"b": {"embedding": [0, 1]}, "a": {"embedding": [1, 0]}}}))
    net = CARE(IN, OUT, 2, 0.5, context="metadata", metadata=str(path), tasks=["a", "b"])
    assert net.vectors.tolist() == [[1, 0], [0, 1]]
    assert net.source[0].weight.shape == (100, 2)  # pyright: ignore


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (SoftModules, {"modules": 0}, "network.modules=0"),
        (SoftModules, {"variant": "offical"}, "did you mean 'official'"),
        (SoftModules, {"depth": 1, "variant": "paper"}, "network.depth=1"),
        (MOORE, {"experts": 0}, "network.experts=0"),
        (MOORE, {"experts": 9, "width": 8}, "network.experts=9"),
        (MOORE, {"heads": "many"}, "network.heads=many"),
        (CARE, {"context": "metadata", "tasks": ["reach", "push"]}, "names 2 tasks of 3"),
        (CARE, {"experts": 0}, "network.experts=0"),
        (CARE, {"context": "meta-data"}, "did you mean 'metadata'"),
        (FiLM, {"modulation": "unit"}, "network.modulation=unit"),
    ],
    ids=str,
)
def test_bad_values(net: type, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        net(IN, OUT, T, 0.5, **options)
