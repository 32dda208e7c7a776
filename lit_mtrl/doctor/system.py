"""Probes of the interpreter and the system: cheap, and with the standard library alone."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from lit_mtrl import __version__
from lit_mtrl.core.processes import cpu_quota, denied
from lit_mtrl.doctor.finding import INSTALL, MISSING, OK, PROBLEM, Finding, gigabytes, version
from lit_mtrl.envs.benchmarks import BENCHMARKS

PACKAGE = Path(__file__).resolve().parent.parent
PINS = (PACKAGE.parent / "requirements.txt", PACKAGE / "requirements.txt")
"""Where the tested versions may be: in a checkout, in an installed package."""


def python() -> Iterator[Finding]:
    """The interpreter."""
    fits = (3, 11) <= sys.version_info < (3, 14)
    found = f"{platform.python_version()}, {sys.executable}; lit_mtrl {__version__}"
    yield Finding("python", OK if fits else PROBLEM, found, "" if fits else "use Python 3.11 to 3.13")


def packages() -> Iterator[Finding]:
    """Installed versions against those that are tested together."""
    file = next((file for file in PINS if file.exists()), None)
    if file is None:
        yield Finding("packages", OK, "no requirements.txt with tested versions to compare them with")
        return
    tested = dict(re.findall(r"^([\w-]+)==(\S+)", file.read_text(), re.MULTILINE))
    differ = {name: version(name) for name, wanted in tested.items() if version(name) != wanted}
    absent = [name for name, found in differ.items() if found is None]
    if absent:
        yield Finding("packages", MISSING, f"not installed: {', '.join(absent)}", INSTALL)
    elif differ:
        listed = ", ".join(f"{name} {found} (tested: {tested[name]})" for name, found in differ.items())
        yield Finding("packages", PROBLEM, f"not tested together: {listed}", INSTALL)
    else:
        yield Finding("packages", OK, f"the {len(tested)} of requirements.txt are those tested together")


def compiler() -> Iterator[Finding]:
    """What ``engine=compile`` needs; nothing is compiled."""
    name = os.environ.get("CXX", "g++")
    path, header = shutil.which(name), Path(sysconfig.get_path("include"), "Python.h")
    otherwise = "or leave engine at auto, which does not compile"
    if path is None:
        yield Finding("compiler", MISSING, f"no {name} for torch.compile", f"apt-get install g++, {otherwise}")
    elif not header.exists():
        found = f"{path}, but no {header} for torch.compile"
        yield Finding("compiler", MISSING, found, f"apt-get install python3-dev, {otherwise}")
    else:
        yield Finding("compiler", OK, f"{path}, for torch.compile")


def cores() -> Iterator[Finding]:
    """Cores against processes; these, and PyTorch's threads, are as many as the cores that the scheduler grants,
    whatever their time.
    """
    usable, quota = len(os.sched_getaffinity(0)), cpu_quota()
    workers = " and ".join(f"{min(usable, len(BENCHMARKS[name]))} for {name}" for name in ("mt10", "mt50"))
    found = f"{usable}; collecting processes by default: {workers}"
    if quota is None or quota >= usable:
        yield Finding("cores", OK, found)
        return
    fewer = max(1, int(quota))
    overrides = " ".join(f"{key}={fewer}" for key in ("trainer.threads", "collector.workers", "eval.workers"))
    remedy = f"docker run --cpuset-cpus=0-{fewer - 1} instead of --cpus, or {overrides}"
    yield Finding("cores", PROBLEM, f"{found}; but a control group leaves the time of {quota:g}", remedy)


def shared_memory(folder: Path = Path("/dev/shm"), enough: float = 300e6) -> Iterator[Finding]:
    """Where collection and evaluation each keep the actor's weights (1.5 MB at width 400, 136 MB at 4096), and NCCL its
    buffers.
    """
    if not folder.exists():
        yield Finding("shared memory", MISSING, f"no {folder}", "collector.workers=1 eval.workers=1")
        return
    free = shutil.disk_usage(folder).free
    remedy = "" if free >= enough else "docker run --shm-size=1g or --ipc=host, before widths over 1024 or several GPUs"
    yield Finding("shared memory", PROBLEM if remedy else OK, f"{gigabytes(free)} free in {folder}", remedy)


def open_files() -> Iterator[Finding]:
    """Pipes and shared tensors: about 120 descriptors in the main process, and 10 more for each that collects."""
    limit, needed = resource.getrlimit(resource.RLIMIT_NOFILE)[0], 120 + 10 * min(len(os.sched_getaffinity(0)), 50)
    remedy = "" if limit >= needed or limit == resource.RLIM_INFINITY else f"ulimit -n {2 * needed}"
    allowed = "any number" if limit == resource.RLIM_INFINITY else str(limit)
    yield Finding("open files", PROBLEM if remedy else OK, f"{allowed} allowed, about {needed} needed", remedy)


def outputs(folder: Path = Path("outputs")) -> Iterator[Finding]:
    """Whether this user can write runs."""
    reason, _, remedy = (denied(folder) or "").partition("; ")
    if reason:
        yield Finding("outputs", PROBLEM, reason, ", or ".join(filter(None, [remedy, "choose another output_dir"])))
    else:
        yield Finding("outputs", OK, f"uid {os.geteuid()} can write to {folder.absolute()}")
