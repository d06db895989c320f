"""The buffer between the door and the pipeline: one port, its implementations."""
