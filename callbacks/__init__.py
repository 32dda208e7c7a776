"""Lightning callbacks: applications that watch a run, or step in."""
