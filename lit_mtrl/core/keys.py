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

STORED = (OBS, ACTION, NEXT_OBS, REWARD, TERMINATED)
"""What off-policy replay keeps of a transition; the task is implied by the row."""
