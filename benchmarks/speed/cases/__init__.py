"""The cases of the speed benchmark: each has `add_options(parser)` and `run(args, work) -> Outcome`."""
