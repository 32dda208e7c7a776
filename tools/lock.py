"""Write the lock files of the Docker image: one version of every package, with the hashes of its files.

Use, from the repository's root:
    make lock                               keeps every version that requirements.txt still allows
    python tools/lock.py --upgrade          takes the newest ones; needs uv from PyPI

Reads requirements.txt and the extras below from pyproject.toml; the result holds for Linux and every Python that
pyproject.toml allows:
    requirements.lock        all packages but PyTorch
    requirements-cuda.lock   PyTorch from PyPI, with NVIDIA's libraries
    requirements-cpu.lock    PyTorch for CPUs from the project's own page, since PyPI has no such wheels
The first is installed after one of the others, all with `pip install --no-deps --require-hashes`.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("tests", "postgres")
COMMON, CUDA, CPU = (ROOT / f"requirements{kind}.lock" for kind in ("", "-cuda", "-cpu"))
PAGE = "https://download.pytorch.org/whl/cpu/torch/"
OF_CUDA = re.compile(r"(torch|triton|nvidia-.+|cuda-.+)==")
# Two packages have no wheels (antlr4-python3-runtime, rliable); without build isolation pip makes them with this one,
# not with what PyPI has today.
FIRST = re.compile(r"setuptools==")
WHEEL = r"torch-{version}(?:%2B|\+)cpu-(cp3(?:11|12|13))-\1-manylinux\w+\.whl#sha256=([0-9a-f]{{64}})"


def resolve(upgrade: bool) -> list[str]:
    """The entries of all packages, hashes included, as text."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "all.lock"
        locked = [path.read_text() for path in (COMMON, CUDA) if path.exists() and not upgrade]
        target.write_text("".join(locked))  # uv prefers the versions that it finds there
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
        command += ["--fork-strategy", "fewest", "--generate-hashes", "--no-header", "--no-annotate"]
        command += [word for extra in EXTRAS for word in ("--extra", extra)]
        command += ["--output-file", str(target), "requirements.txt", "pyproject.toml"]
        if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode:
            raise SystemExit("lock: uv found no versions that fit together, or is not installed (pip install uv)")
        entries = re.findall(r"^\S.*(?:\n +.*)*\n", target.read_text(), re.MULTILINE)
    return [entry for entry in entries if "sys_platform == 'win32'" not in entry]


def cpu_torch(version: str, page: str) -> str:
    """The entry of PyTorch's CPU wheels; their hashes are part of the page's links."""
    try:
        with urllib.request.urlopen(page, timeout=30) as answer:
            found = re.findall(WHEEL.format(version=re.escape(version)), answer.read().decode())
    except OSError as error:
        if CPU.exists() and f"torch=={version}+cpu " in CPU.read_text():
            return entry_of(CPU, "torch")
        raise SystemExit(f"lock: {page} cannot be read ({error}); it has the hashes of torch {version}+cpu") from None
    if {tag for tag, _ in found} != {"cp311", "cp312", "cp313"}:
        raise SystemExit(f"lock: {page} has no wheels of torch {version}+cpu for Python 3.11 to 3.13")
    hashes = sorted({f"    --hash=sha256:{digest}" for _, digest in found})
    return " \\\n".join([f"torch=={version}+cpu", *hashes]) + "\n"


def entry_of(path: Path, name: str) -> str:
    """One package's entry in a lock file."""
    found = re.search(rf"^{name}==.*(?:\n +.*)*\n", path.read_text(), re.MULTILINE)
    if not found:
        raise SystemExit(f"lock: {path.name} has no entry for {name}")
    return found[0]


def main() -> None:
    """Resolve, split, write."""
    parser = argparse.ArgumentParser(
        description="Write requirements.lock, requirements-cuda.lock, requirements-cpu.lock."
    )
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions, not those locked before")
    parser.add_argument("--torch-page", default=PAGE, metavar="URL", help="where the CPU wheels' hashes are")
    options = parser.parse_args()
    entries = resolve(options.upgrade)
    first = [entry for entry in entries if FIRST.match(entry)]
    cuda = [entry for entry in entries if OF_CUDA.match(entry)]
    version = next(match[1] for entry in cuda if (match := re.match(r"torch==([\d.]+)", entry)))
    cpu = [f"--find-links {PAGE}\n", *first, cpu_torch(version, options.torch_page)]
    head = "# Made by `make lock` from requirements.txt and pyproject.toml: do not edit.\n"
    for path, content in (
        (COMMON, [entry for entry in entries if entry not in first and entry not in cuda]),
        (CUDA, first + cuda),
        (CPU, cpu),
    ):
        path.write_text(head + "".join(content))


if __name__ == "__main__":
    main()
