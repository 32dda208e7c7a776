"""Environment suites: Meta-World and the probes, behind one contract (`base`)."""
