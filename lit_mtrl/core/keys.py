"""Names of TensorDict keys, TorchRL's own where it has one."""

from __future__ import annotations

OBS = "observation"
ACTION = "action"
TASK = "task_id"
NEXT_OBS = ("next", "observation")
REWARD = ("next", "reward")
TERMINATED = ("next", "terminated")
DONE = ("next", "done")
SUCCESS = ("next", "success")
EPISODE_RETURN = ("next", "episode_return")
EPISODE_LENGTH = ("next", "episode_length")
LOG_PROB = "action_log_prob"
STATE_VALUE = "state_value"
