"""The LightningModule and its engine (losses, weights, step, report), and what a run is continued from."""
