"""Probes of what PyTorch computes on, and of how its processes talk."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from lit_mtrl.doctor.finding import MISSING, OK, PROBLEM, Finding, about, gigabytes

DRIVER = Path("/proc/driver/nvidia/version")


def torch() -> Iterator[Finding]:
    """A product on the CPU."""
    import torch

    x = torch.ones(64, 64)
    assert (x @ x).sum().item() == 64**3, "a matrix product is wrong"
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
    yield Finding("torch", OK, f"{torch.__version__}, {build}, {torch.get_num_threads()} threads")


def gpus() -> Iterator[Finding]:
    """Every GPU by a product on it, and CUDA graphs on the first."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        yield no_gpu(torch.version.cuda, [str(one.message).strip().splitlines()[0] for one in said])
    for index in range(count):
        with about(f"GPU {index}", "see nvidia-smi; update the driver, or install the PyTorch build for this GPU"):
            facts = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            x = torch.ones(256, 256, device=f"cuda:{index}")
            assert (x @ x).sum().item() == 256**3, "a matrix product is wrong"
            kind = f"{facts.name}, compute capability {facts.major}.{facts.minor}, driver {driver() or 'unknown'}"
            yield Finding(f"GPU {index}", OK, f"{kind}, {gigabytes(free)} of {gigabytes(total)} free")
    if count:
        with about("CUDA graphs", "engine=eager or compile"):
            x = torch.zeros(256, device="cuda:0")
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                x += 1
            graph.replay()
            assert x.sum().item() == 256, "a replay computed something else"
            yield Finding("CUDA graphs", OK, "one recorded and replayed")


def ranks() -> Iterator[Finding]:
    """An all-reduce over gloo, by which ranks on CPUs talk, and over NCCL, by which those on GPUs do; in groups of this
    process alone.
    """
    import torch
    import torch.distributed as dist

    with about("gloo", "check that the host's name resolves, or set GLOO_SOCKET_IFNAME=lo; one rank works without"):
        _all_reduce("gloo", "cpu")
        yield Finding("gloo", OK, "one all-reduce done")
    if not dist.is_nccl_available():
        found = "this PyTorch has none; several GPUs need it"
        yield Finding("NCCL", MISSING, found, "install a CUDA build of PyTorch where there are GPUs")
    elif not torch.cuda.is_available():
        yield Finding("NCCL", OK, "part of this PyTorch; there is no GPU to try it on")
    else:
        with about("NCCL", "NCCL_DEBUG=WARN says more; one GPU per run works without"):
            from torch.cuda import nccl

            _all_reduce("nccl", "cuda:0")
            yield Finding("NCCL", OK, f"{'.'.join(map(str, nccl.version()))}, one all-reduce done")


def no_gpu(cuda: str | None, said: list[str]) -> Finding:
    """Why PyTorch, built for ``cuda``, finds no GPU; ``said``: its warnings."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return Finding("GPU", MISSING, "CUDA_VISIBLE_DEVICES hides all", "unset it")
    found = f"driver {driver()}" if driver() else "no NVIDIA driver"
    if not cuda:
        found += ", and this PyTorch is a CPU build"
        return Finding("GPU", MISSING, found, "install a CUDA build of PyTorch where there are GPUs")
    if driver():
        return Finding("GPU", PROBLEM, f"{found}, but {said[0] if said else 'no device'}", "update the driver")
    remedy = "install it if there is a GPU; start a container with --gpus all"
    return Finding("GPU", MISSING, found, remedy)


def driver() -> str:
    """The version of NVIDIA's driver, empty where there is none or it does not say."""
    found = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\S+)", DRIVER.read_text()) if DRIVER.exists() else None
    return found[1] if found else ""


def _all_reduce(backend: str, device: str) -> None:
    import torch
    import torch.distributed as dist

    dist.init_process_group(backend, store=dist.TCPStore("127.0.0.1", 0, 1, True), rank=0, world_size=1)
    x = torch.ones(4, device=device)
    dist.all_reduce(x)
    assert x.sum().item() == 4, "the sum is wrong"
    dist.destroy_process_group()
