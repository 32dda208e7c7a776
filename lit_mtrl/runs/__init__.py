"""The composition root: a run built from its configuration, its folder and tags, and sweeps of runs."""
