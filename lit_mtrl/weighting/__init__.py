"""Weightings: functions from per-task losses to task weights."""
