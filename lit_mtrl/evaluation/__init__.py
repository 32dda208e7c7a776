"""Playing episodes with a trained policy, and the statistics of what came out."""
