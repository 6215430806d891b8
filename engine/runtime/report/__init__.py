"""Reports of a run: progress, status, summary, efficiency."""
