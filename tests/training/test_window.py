"""Between two reports: means over iterations, speed, and the last episodes of all ranks."""

from __future__ import annotations

import time

import pytest
import torch

from lit_mtrl.core.ranks import Ranks
from lit_mtrl.training.window import EPISODES, RecentEpisodes, Window


def test_means_are_over_iterations() -> None:
    window = Window(0)
    window.add({"x/loss": [1.0, 2.0], "y/loss": [5.0]}, updates=3, seconds=0.5)
    window.add({"x/loss": [3.0, 6.0], "y/loss": [7.0]}, updates=3, seconds=1.5)
    assert window.means() == {"x/loss": [2, 4], "y/loss": [6]}
    assert (window.updates, window.update_seconds) == (6, 2)


def test_nothing_before_the_first_update() -> None:
    assert Window(0).means() == {}


def test_speed_is_since_the_window_began(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    window = Window(1000)
    window.collect_seconds += 1.0
    window.add({}, updates=20, seconds=2.0)
    now = 104.0
    assert window.speed(1600) == {
        "speed/frames_per_second": 150,
        "speed/updates_per_second": 5,
        **{"time/collect": 1, "time/update": 2, "time/other": 1},
    }


def ended(*pairs: tuple[float, float]) -> torch.Tensor:
    """Rows of task, return, length, success for pairs of success and return."""
    return torch.tensor([[0.0, total, 10.0, success] for success, total in pairs])


def test_episodes_count_once_they_are_gathered() -> None:
    episodes = RecentEpisodes()
    assert episodes.means("success") == {}
    episodes.add(100, ended((1, 8), (0, 2)))
    assert episodes.means("success") == {}
    episodes.gather(Ranks())
    assert episodes.means("success") == {"train/success": 0.5, "train/return": 5}
    assert episodes.means("return") == {"train/return": 5}
    again = RecentEpisodes()
    again.restore(episodes.state())
    assert again.state() == [[1, 8], [0, 2]]


def test_only_the_last_episodes_count() -> None:
    episodes = RecentEpisodes()
    episodes.add(100, ended((0, -1), *[(1, 1)] * EPISODES))
    episodes.gather(Ranks())
    assert episodes.means("success") == {"train/success": 1, "train/return": 1}


def test_episodes_of_all_ranks_are_in_the_order_in_which_they_ended() -> None:
    class Two(Ranks):
        """The other rank's ended between this one's."""

        def gather(self, value):
            return [value, [(20, 0.0, 2.0)]]

    episodes = RecentEpisodes()
    episodes.add(10, ended((1, 1)))
    episodes.add(30, ended((1, 3)))
    episodes.gather(Two(0, 2))
    assert episodes.state() == [[1, 1], [0, 2], [1, 3]]
