"""Many exports at once, with bounded concurrency and a journal."""
