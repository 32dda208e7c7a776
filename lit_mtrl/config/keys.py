"""Every key of the configuration with its kind and range: what checks, ``fit --help`` and docs/configuration.md read.

Ranges are what can be computed with and allocated somewhere, wider than what makes sense. What depends on other keys
(an epoch's length, a number of workers) is checked where they meet. A key of somebody's own class has the type of its
default alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from lit_mtrl.config.kinds import Address, Choice, Flag, Folder, Kind, Name, Number, Numbers, Size, Tasks, Text, Whole

DEVICES = ("auto", "cpu", "cuda")
COUNT = Whole(low=1, high=10**9)
UNITS = Whole(low=1, high=2**20)
LAYERS = Whole(low=1, high=1000)
PARTS = Whole(low=1, high=1000)
RATE = Number(low=0, high=10, open="low")
POSITIVE = Number(low=0, high=1e6, open="low")
SEED = Whole(low=0, high=2**32 - 1)
FRAMES = Whole(low=1, high=10**15)

KEYS: dict[str, Kind] = {
    "seed": SEED,
    "frames": FRAMES,
    "epoch_frames": FRAMES,
    "experiment_name": Name(),
    "run_name": Name(),
    "output_dir": Folder(),
    "benchmark.name": Name(),
    "benchmark.tasks": Tasks(),
    "env.horizon": Whole(low=0, high=1_000_000),
    "env.goals": Whole(low=1, high=10_000),
    "env.rewards": Choice(of=("v2", "v1")),
    "env.engine": Choice(of=("native", "python")),
    "env.threads": Whole(low=0, high=1024),
    "env.keep_starts": Flag(),
    "env.kind": Choice(of=("constant", "observation", "delay", "action", "both", "endless")),
    "algo.name": Name(),
    "algo.gamma": Number(low=0, high=1, open="high"),
    "algo.tau": Number(low=0, high=1, open="low"),
    "algo.actor_lr": RATE,
    "algo.critic_lr": RATE,
    "algo.temperature_lr": RATE,
    "algo.shared_lr": RATE,
    "algo.adam_eps": Number(low=0, high=1, open="low"),
    "algo.max_grad_norm": Number(low=0, high=1e12, open="low", null="no clipping"),
    "algo.initial_temperature": POSITIVE,
    "algo.target_entropy": Number(low=-1e4, high=1e4, null="minus the number of action dimensions"),
    "algo.shared_temperature": Flag(),
    "algo.task_weights": Flag(),
    "algo.log_alpha_min": Number(low=-100, high=100, null="no bound"),
    "algo.log_alpha_max": Number(low=-100, high=100, null="no bound"),
    "algo.mask_out": Number(low=0, high=1e30, open="low", null="no mask-out"),
    "actor.log_std_min": Number(low=-100, high=20),
    "actor.log_std_max": Number(low=-100, high=20),
    "critic.size": Whole(low=1, high=100),
    "network.name": Name(),
    "network.match": Size(null="network.width says it"),
    "network.width": UNITS,
    "network.depth": LAYERS,
    "network.skip": Flag(),
    "network.layer_norm": Flag(),
    "network.task_input": Choice(of=("one_hot", "embedding")),
    "network.embedding_size": UNITS,
    "network.modules": PARTS,
    "network.embedding": UNITS,
    "network.variant": Text(),
    "network.experts": PARTS,
    "network.expert_width": UNITS,
    "network.context_width": UNITS,
    "network.heads": Choice(of=("single", "multi")),
    "network.context": Choice(of=("embedding", "metadata")),
    "network.metadata": Text(null="the shipped file"),
    "network.tasks": Tasks(),
    "network.temperature": POSITIVE,
    "network.modulation": Choice(of=("layer", "feature")),
    "network.one_plus": Flag(),
    "network.init": Text(),
    "network.parameter_sets": PARTS,
    "network.composition": Choice(of=("all", "output", "none")),
    "weighting.*.name": Name(),
    "weighting.*.shared_only": Flag(),
    "weighting.*.c": Number(low=0, high=1, open="high"),
    "weighting.*.rescale": Choice(of=("square", "linear", "none")),
    "weighting.*.temperature": POSITIVE,
    "weighting.*.window": COUNT,
    "weighting.*.lr": RATE,
    "weighting.*.weight_decay": Number(low=0, high=1000),
    "weighting.*.floor": Number(low=-1e12, high=1e12),
    "weighting.*.asymmetry": Number(low=0, high=100),
    "weighting.*.reduction": Choice(of=("mean", "sum")),
    "weighting.*.seed": SEED,
    "collector.steps": Whole(low=1, high=1_000_000),
    "collector.copies": Whole(low=1, high=4096),
    "collector.stagger": Flag(),
    "collector.workers": Whole(low=0, high=1024),
    "collector.random_steps": Whole(low=0, high=10**12),
    "collector.updates_per_step": Number(low=0, high=1000, open="low"),
    "collector.overlap": Flag(),
    "collector.policy_device": Choice(of=DEVICES),
    "replay.capacity": COUNT,
    "replay.per_task": Whole(low=1, high=1_000_000),
    "replay.epochs": COUNT,
    "replay.minibatches": COUNT,
    "replay.device": Choice(of=DEVICES),
    "engine.mode": Choice(of=("auto", "eager", "compile", "cudagraph", "compile+cudagraph")),
    "engine.precision": Choice(of=("fp32", "tf32", "bf16")),
    "trainer.accelerator": Choice(of=("auto", "cpu", "gpu", "cuda", "mps")),
    "trainer.devices": Whole(low=1, high=1024),
    "trainer.strategy": Choice(of=("auto", "ddp", "ddp_find_unused_parameters_true")),
    "trainer.threads": Whole(low=0, high=1024),
    "eval.every_epochs": COUNT,
    "eval.episodes": Whole(low=1, high=1_000_000),
    "eval.workers": Whole(low=0, high=1024),
    "eval.protocol": Choice(of=("every_goal", "official")),
    "eval.background": Flag(),
    "callbacks.*.every_epochs": COUNT,
    "callbacks.*.batches": COUNT,
    "callbacks.*.thresholds": Numbers(low=0, high=1, open="high"),
    "callbacks.*.delta": Number(low=0, high=1, open="low high"),
    "callbacks.*.method": Choice(of=("interpolate", "copy")),
    "callbacks.*.clear_moments": Flag(),
    "logger.tracking_uri": Address(null="mlflow.db in the working directory"),
    "logger.log_frames": FRAMES,
}


def kind_of(key: str) -> Kind | None:
    """The kind of a key, of ``actor.network.width`` that of ``network.width``; None for a key that is not ours."""
    parts = key.split(".")
    if parts[1:2] == ["network"]:
        parts = parts[1:]
    if parts[0] in ("weighting", "callbacks") and len(parts) == 3:
        parts[1] = "*"
    return KEYS.get(".".join(parts))


def described() -> Iterator[tuple[str, str]]:
    """Every key, and in words what it takes."""
    for key, kind in KEYS.items():
        yield key, f"{kind}{f'; null: {kind.null}' if kind.null else ''}"
