"""One corpus for many tasks: what they have in common, the last job, and what the whole will take."""
