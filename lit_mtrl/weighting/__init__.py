"""Weightings: functions from the tasks' losses, or the Gramian of their gradients, to task weights."""
