"""Task weightings, one a file: from the tasks' losses or their gradients' inner products to the tasks' weights."""
