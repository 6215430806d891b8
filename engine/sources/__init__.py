"""Where items come from: one source for each URL scheme."""
