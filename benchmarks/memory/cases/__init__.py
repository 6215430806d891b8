"""The cases of the memory benchmark: each has `add_options(parser)` and `run(args, bench) -> Outcome`."""
