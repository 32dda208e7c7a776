"""Meta-World v3, the official package, driven one task class at a time; its steps compiled, or its own.

NOTE 1: goals are those of the official benchmark of the same task list and seed (`metaworld._make_tasks`): one NumPy
        legacy stream through the tasks in order. The physics is left out while they are drawn, since no task's draw
        looks at it; a test compares them with the official ones.
NOTE 2: observations are float32 here; Meta-World computes in float64 and clips what `step` returns to its observation
        space, but not what `reset` returns.
NOTE 3: the goal is visible (``partially_observable=False``), as in the official multi-task benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from lit_mtrl.core.errors import require
from lit_mtrl.core.once import warn_once
from lit_mtrl.core.suggest import unknown
from lit_mtrl.envs.base import Suite, TaskEnv
from lit_mtrl.envs.benchmarks import BENCHMARKS, MT50
from lit_mtrl.envs.mujoco import import_mujoco

if TYPE_CHECKING:
    import gymnasium
    from metaworld.sawyer_xyz_env import SawyerXYZEnv

    from lit_mtrl.envs.vector import VectorEnv

OFFICIAL_GOALS = 50
MAX_HORIZON = 500
ENGINES = ("native", "python")


class MetaWorld(Suite):
    """A list of Meta-World tasks; see `lit_mtrl.envs.base.Suite`.

    tasks: names without the ``-v3``, in one-hot order.
    horizon: steps of an episode, at most 500.
    goals: variations per task, drawn from at every reset; 1 is the fixed-goal setting.
    rewards: ``v2`` or ``v1``.
    engine: ``native``, the official ``step`` in compiled code (`lit_mtrl.envs.native`), with equal results and several
        times as fast; ``python``, the official code itself. v1 rewards are the official code's in any case.
    threads: that step compiled environments in each process; 0 for its share of the cores.
    keep_starts: whether the states that official resets make are kept on disk, too, for later runs.
    seed: picks the goals.
    """

    obs_dim, action_dim = 39, 4

    def __init__(
        self,
        tasks: Sequence[str],
        horizon: int = 500,
        goals: int = 50,
        rewards: str = "v2",
        engine: Literal["native", "python"] = "native",
        threads: int = 0,
        keep_starts: bool = False,
        seed: int = 0,
    ):
        tasks = [task.removesuffix("-v3") for task in tasks]
        for task in tasks:
            require(task in MT50, unknown("benchmark.tasks", task, MT50))
        require(len(tasks) > 0, "benchmark.tasks: name at least one task")
        require(
            len(set(tasks)) == len(tasks),
            "benchmark.tasks: a task is named twice; use collector.copies for several copies",
        )
        require(
            1 <= horizon <= MAX_HORIZON, f"env.horizon={horizon}: Meta-World's episodes have 1 to {MAX_HORIZON} steps"
        )
        require(goals > 0, f"env.goals={goals}: at least one goal is needed")
        require(rewards in ("v1", "v2"), unknown("env.rewards", rewards, ["v1", "v2"]))
        require(engine in ENGINES, unknown("env.engine", engine, ENGINES))
        require(threads >= 0, f"env.threads={threads}: threads that step environments; 0 for a share of the cores")
        self.tasks, self.horizon, self.num_goals, self.rewards, self.seed = tasks, horizon, goals, rewards, seed
        self.engine, self.threads, self.keep_starts = engine, threads, keep_starts
        self._goals: list[NDArray] | None = None
        self._native: bool | None = None

    def draw_goals(self) -> list[NDArray]:
        """Per task ``[num_goals, d]``, the random vectors that place objects and goal."""
        if self._goals is None:
            self._goals = _draw_goals(self.tasks, max(OFFICIAL_GOALS, self.num_goals), self.seed)
        return [goals[: self.num_goals] for goals in self._goals]

    def __getstate__(self) -> dict:
        # Once here, not in every process that gets the suite.
        self.draw_goals()
        self.native()
        return dict(self.__dict__)

    def make(self, task: int) -> TaskEnv:
        official = self.make_official(task)
        if not self.native():
            return official
        from lit_mtrl.envs.native.vector import NativeTask

        return NativeTask(self.tasks[task], official, self.keep_starts)

    def make_official(self, task: int) -> MetaWorldTask:
        """The environment of task index ``task``, stepped by the official code."""
        return MetaWorldTask(self.tasks[task], self.draw_goals()[task], self.rewards)

    def check(self) -> None:
        """Have steps compiled before processes need them."""
        self.native()

    def native(self) -> bool:
        """Whether steps are compiled: asked for, and possible here; says why not, once."""
        if self._native is None:
            self._native = self.engine == "native" and self._possible()
        return self._native

    def _possible(self) -> bool:
        if self.rewards == "v1":
            warn_once("env.rewards=v1: the official code computes them, and steps (env.engine=python)")
            return False
        import_mujoco()
        from lit_mtrl.envs.native import possible

        return possible(self.tasks, lambda: self.make_official(0))

    def vector_class(self) -> type[VectorEnv] | None:
        if not self.native():
            return None
        from lit_mtrl.envs.native.vector import NativeVector

        return NativeVector

    def official_vector(self, in_processes: bool) -> gymnasium.vector.VectorEnv:
        """The same tasks behind Meta-World's own wrappers, one environment per task, as ``gym.make_vec`` builds
        them.
        """
        import_mujoco()
        import gymnasium
        import metaworld

        def build(task: int) -> Callable[[], gymnasium.Env]:
            name, cls = f"{self.tasks[task]}-v3", _task_class(self.tasks[task])
            data = [
                {"rand_vec": goal, "env_cls": cls, "partially_observable": False} for goal in self.draw_goals()[task]
            ]
            return partial(
                metaworld._init_each_env,
                env_cls=cls,
                tasks=[metaworld._encode_task(name, one) for one in data],
                seed=self.seed + 1,
                max_episode_steps=self.horizon,
                reward_function_version=self.rewards,  # pyright: ignore[reportArgumentType]
            )

        makers = [build(task) for task in range(len(self.tasks))]
        mode = gymnasium.vector.AutoresetMode.SAME_STEP
        if in_processes:
            return gymnasium.vector.AsyncVectorEnv(makers, context="spawn", autoreset_mode=mode)
        return gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=mode)

    def tags(self) -> dict[str, str]:
        names: dict[tuple[str, ...], str] = {tuple(v): k for k, v in BENCHMARKS.items()}
        return {
            "backend": "metaworld",
            "benchmark": names.get(tuple(self.tasks), f"mt{len(self.tasks)}-" + "+".join(self.tasks)),
            "rewards": self.rewards,
            "horizon": str(self.horizon),
            "goals": str(self.num_goals),
        }


class MetaWorldTask:
    """One official task class with a fixed table of goals."""

    def __init__(self, name: str, goals: NDArray, rewards: str):
        self.official = _task_class(name)(reward_function_version=rewards)
        self.official._set_task_called = True
        self.official._freeze_rand_vec = True
        self.official._partially_observable = False
        self.official.__dict__.pop("sawyer_observation_space", None)  # cached while the goal was still hidden
        self.official._set_task_inner()
        self.goals = goals

    def reset(self, goal: int) -> NDArray:
        self.official._last_rand_vec = self.goals[goal]
        # Survives Meta-World's own reset and would replay a stale observation for ever after one unstable step.
        self.official._did_see_sim_exception = False
        return self.official.reset()[0]

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        obs, reward, terminated, _, info = self.official.step(action)
        return obs, float(reward), terminated, bool(info["success"])

    def close(self) -> None:
        self.official.close()


def _task_class(name: str) -> type[SawyerXYZEnv]:
    import_mujoco()
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    return ALL_V3_ENVIRONMENTS[f"{name}-v3"]


def _draw_goals(tasks: Sequence[str], number: int, seed: int) -> list[NDArray]:
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        goals = []
        for task in tasks:
            env = _task_class(task)()
            env._freeze_rand_vec = False
            env._set_task_called = True
            env._set_task_inner()
            setattr(env, "_reset_hand", partial(_place_hand, env))  # noqa: B010  see NOTE 1
            drawn = []
            for _ in range(number):
                env.reset()
                drawn.append(env._last_rand_vec)
            goals.append(np.array(drawn))
            env.close()
        return goals
    finally:
        np.random.set_state(before)


def _place_hand(env: SawyerXYZEnv, steps: int = 50) -> None:
    """In place of ``_reset_hand``: positions are computed, time does not pass."""
    import mujoco

    mujoco.mj_forward(env.model, env.data)  # pyright: ignore[reportAttributeAccessIssue]
    env.init_tcp = env.tcp_center
