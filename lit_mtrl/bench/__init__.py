"""The ``bench`` command: collection, update and whole runs against the limits of the machine; ``benchmarks/README.md``
explains its columns.
"""
