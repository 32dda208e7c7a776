"""What a configuration may hold, without importing what it configures: kinds and ranges of values, files that are
read, classes that may be named.
"""
