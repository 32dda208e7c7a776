"""How what a run reports reaches MLflow: a queue on disk, the thread that sends it, and what makes both agree when a
run is continued.
"""
