"""Tensors in a folder: one file for each, and ``meta.json`` with shapes and types. Nothing that is read can hold
code.

A file is the tensor's contiguous memory. The layout is that of tensordict's memory maps, so that those of older runs
are read as well; but theirs may come with a pickle, which is not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from lit_mtrl.core import files
from lit_mtrl.core.files import Sum

META = "meta.json"
DTYPES = {str(t): t for t in vars(torch).values() if isinstance(t, torch.dtype)}


def save(data: TensorDictBase, folder: Path) -> dict[str, Sum]:
    """Write ``data`` into the new ``folder``; the sums of its files by relative name. Tensors elsewhere come to the
    host in parts.
    """
    folder.mkdir()
    sums: dict[str, Sum] = {}
    meta: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, torch.Tensor):
            name = f"{key}.memmap"
            sums[name] = files.write(folder / name, _parts(value))
            meta[key] = {"device": "cpu", "shape": list(value.shape), "dtype": str(value.dtype), "is_nested": False}
        else:
            sums |= {f"{key}/{name}": found for name, found in save(value, folder / key).items()}
            meta[key] = {"type": "TensorDict"}
    meta |= {"shape": list(data.batch_size), "device": "cpu", "_type": "<class 'tensordict._td.TensorDict'>"}
    sums[META] = files.write(folder / META, [json.dumps(meta).encode()])
    files.sync(folder)
    return sums


def load(folder: Path) -> TensorDict:
    """What `save` wrote, mapped and read when it is used; `ValueError` in one line if files are missing, or do not
    fit ``meta.json``.
    """
    try:
        meta = json.loads((folder / META).read_bytes())
        out = TensorDict({}, meta.pop("shape"))
        for key, about in meta.items():
            if key in ("device", "_type"):
                continue
            if Path(key).name != key:  # it would lead elsewhere
                raise ValueError(f"{key!r} is no name of a tensor")
            out[key] = _map(folder / f"{key}.memmap", about) if "dtype" in about else load(folder / key)
    except (OSError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ValueError(reason if str(folder) in reason else f"{folder / META}: {reason}") from error
    return out


def _map(path: Path, about: dict[str, Any]) -> torch.Tensor:
    dtype, shape = DTYPES[about["dtype"]], torch.Size(about["shape"])
    size, expected = path.stat().st_size, shape.numel() * dtype.itemsize
    if size != expected:
        raise ValueError(f"{path} has {size} of {expected} bytes")
    return torch.from_file(str(path), size=shape.numel(), dtype=dtype).view(shape)


def _parts(tensor: torch.Tensor) -> Iterator[Any]:
    rows = max(1, files.CHUNK // max(1, tensor[0].nbytes)) if len(tensor) else 1
    for part in tensor.split(rows):
        yield part.cpu().contiguous().flatten().view(torch.uint8).numpy()
