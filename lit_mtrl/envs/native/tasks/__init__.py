"""A file for each task: what it reads, what it observes, and what it rewards."""
