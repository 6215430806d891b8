"""What bounds a run: memory, time, one run at a time, deaths."""
