"""Tells Hydra of the folders that ``--config-dir`` adds, wherever it composes: here, in a sweep, in a sweep's jobs."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from lit_mtrl.config.folders import added_dirs


class AddedFolders(SearchPathPlugin):
    """Looked through after our own ``conf/``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in added_dirs():
            search_path.append("--config-dir", f"file://{folder}")


def search_added_folders() -> None:
    """From now on, in this process."""
    Plugins.instance().register(AddedFolders)
