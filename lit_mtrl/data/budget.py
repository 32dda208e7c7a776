"""Frames of a run, of its epochs and iterations, and how they must divide."""

from __future__ import annotations

from lit_mtrl.core.errors import require


def check_budget(frames: int, epoch_frames: int, step_frames: int, horizon: int, steps: int, ranks: int) -> None:
    """`ConfigError` unless the budget is a whole number of epochs, and these of episodes and of iterations.

    frames, epoch_frames: of the budget and of an epoch, summed over tasks.
    step_frames: of a vector step, on one rank.
    horizon: steps of an episode.
    steps: vector steps of an iteration.
    ranks: how many take part.
    """
    require(frames > 0, f"frames={frames}: the budget is positive")
    require(epoch_frames > 0, f"epoch_frames={epoch_frames}: an epoch has at least one episode of every task")
    episode = step_frames * horizon * ranks
    near = max(1, round(epoch_frames / episode)) * episode
    require(
        epoch_frames % episode == 0,
        f"epoch_frames={epoch_frames}: an epoch is a whole number of episodes of every task, a multiple of {episode}"
        f" (tasks x copies x horizon{' x ranks' if ranks > 1 else ''}), such as {near}",
    )
    near = max(1, round(frames / epoch_frames)) * epoch_frames
    require(
        frames % epoch_frames == 0,
        f"frames={frames}: the budget is a whole number of epochs of {epoch_frames} frames, such as {near}",
    )
    vector_steps = epoch_frames // step_frames
    require(
        vector_steps % steps == 0, f"collector.steps={steps}: must divide the {vector_steps} vector steps of an epoch"
    )
