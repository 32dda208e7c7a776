"""What every room may use and what knows none of them: keys, errors, text, files, signals, processes, ranks, tables."""
