"""Networks: one architecture a file, every one usable as actor and as critic."""
