"""The stream of data: collection, the buffers that hold it, and batches of which row t is task t."""
