"""Environment suites, one a file, and the vector environment that runs their tasks; plain NumPy up to `vector`."""
