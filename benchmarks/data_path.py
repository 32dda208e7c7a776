"""Two figures about the data path on MT10, each a ratio within this one run.

1. Collection: `TaskCollector` with ``--workers`` processes (random actions) against gymnasium's AsyncVectorEnv over Meta-World's own
   ``make_vec``, in turns; environment steps per second.
2. Overhead: the share of an iteration of ``mt10_mtmhsac`` that is neither environment step, policy inference nor gradient update. The first
   two are timed bare: the same tasks split over the same number of processes, stepped in a plain loop with the policy; the third by running
   the engine alone on one chunk.

    python -m benchmarks.data_path [--workers 2] [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium
import metaworld  # noqa: F401  (registers make_vec's names)
import numpy as np
import torch

from lit_mtrl.agent import Agent
from lit_mtrl.build import Run, build_algorithm, build_suite
from lit_mtrl.compose import compose
from lit_mtrl.data.collect import TaskCollector
from lit_mtrl.envs.metaworld import MetaWorld
from lit_mtrl.policies import EXPLORE, RANDOM, ActingPolicy
from lit_mtrl.spec import MT10

STEPS = 200


def rate(call: Callable[[], object], frames: int) -> float:
    """Frames per second of one call."""
    start = time.perf_counter()
    call()
    return frames / (time.perf_counter() - start)


def collection(workers: int, rounds: int) -> dict:
    """Frames per second of both, median over rounds, and the median of the rounds' ratios."""
    cfg = compose(["mt10_mtmhsac"], [])
    suite = build_suite(cfg)
    policy = build_algorithm(cfg, suite).acting_policy()
    policy.phase.fill_(RANDOM)
    ours = TaskCollector(suite, policy, STEPS, 1, workers)
    ours.restart(0)
    ours.publish()
    theirs = gymnasium.make_vec("Meta-World/MT10", vector_strategy="async", seed=1)
    theirs.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, 10, 4)).astype(np.float32)

    def step_theirs() -> None:
        for action in actions:
            theirs.step(action)

    pairs = []
    for i in range(rounds + 1):
        pair = rate(ours.collect, STEPS * 10), rate(step_theirs, STEPS * 10)
        if i:  # the first round warms both up
            pairs.append(pair)
    ours.shutdown()
    theirs.close()
    return {
        "ours_frames_per_second": statistics.median(p[0] for p in pairs),
        "async_vector_env_frames_per_second": statistics.median(p[1] for p in pairs),
        "ratio": statistics.median(p[0] / p[1] for p in pairs),
    }


def bare_seconds(suite: MetaWorld, policy: ActingPolicy, tasks: list[int], steps: int, queue) -> None:
    """Policy and environments in a plain loop; puts the seconds per vector step."""
    torch.set_num_threads(1)
    envs, task = [suite.make(t) for t in tasks], torch.tensor(tasks)
    obs = np.stack([env.reset(0) for env in envs]).astype(np.float32)
    queue.put("ready")
    start = time.perf_counter()
    with torch.no_grad():
        for _ in range(steps):
            noise = torch.randn(len(tasks), 4)
            action = policy.actor.sample(torch.from_numpy(obs), noise, task)[0].numpy()
            for i, env in enumerate(envs):
                obs[i] = env.step(action[i])[0]
    queue.put((time.perf_counter() - start) / steps)


def overhead(workers: int, iterations: int) -> dict:
    """Seconds per iteration, of which environment and policy, of which update, and the rest's share."""
    cfg = compose(["mt10_mtmhsac"], [f"collector.workers={workers}", "collector.random_steps=100", "logger=csv"])
    run = Run(cfg)
    agent, data = run.agent, run.data
    data.setup("fit")
    agent.configure_optimizers()
    assert agent.engine is not None and data.replay is not None
    stream = iter(data)
    steps = cfg.collector.steps
    for _ in range(100 // steps + 2):
        batch = next(stream)
    context, queues, processes = multiprocessing.get_context("spawn"), [], []
    data.policy.phase.fill_(EXPLORE)

    def bare() -> float:
        queues.clear()
        for w in range(workers):
            tasks = list(range(10))[w * 10 // workers : (w + 1) * 10 // workers]
            queue = context.SimpleQueue()
            arguments = (data.suite, data.policy, tasks, 300, queue)
            process = context.Process(target=bare_seconds, args=arguments)
            process.start()
            queues.append(queue)
            processes.append(process)
        for queue in queues:
            queue.get()
        return max(queue.get() for queue in queues) * steps

    acting = bare()
    totals, updates = [], []
    for _ in range(iterations):
        start = time.perf_counter()
        batch = next(stream)
        step(agent, batch)
        totals.append(time.perf_counter() - start)
        start = time.perf_counter()
        agent.engine.run(batch.chunk)  # pyright: ignore[reportArgumentType]
        updates.append(time.perf_counter() - start)
    data.teardown("fit")
    total, update = statistics.median(totals), statistics.median(updates)
    return {
        "iteration_seconds": total,
        "environment_and_policy_seconds": acting,
        "update_seconds": update,
        "other_share": (total - acting - update) / total,
    }


def step(agent: Agent, batch) -> None:
    """What `Agent.training_step` does between two reports."""
    assert agent.engine is not None
    agent.frames = batch.frames
    agent.recent.extend((row[3], row[1]) for row in batch.episodes.tolist())
    per_task, scalar = agent.engine.run(batch.chunk)
    agent._accumulate({**per_task, **scalar})


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    report = {"collection": collection(args.workers, args.rounds), "overhead": overhead(args.workers, args.iterations)}
    report["machine"] = {"cores": multiprocessing.cpu_count(), "threads": torch.get_num_threads(), "tasks": len(MT10)}
    text = json.dumps(report, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
