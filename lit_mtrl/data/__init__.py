"""The data path: collect, store per task, sample, deliver one iteration at a time."""
