"""Entry points of the child processes."""
