"""Where metrics and files go: ``metrics.csv``, and MLflow through a queue on disk that outlives its store."""
