"""A child process and what connects it: messages, channels, shared memory, its clock."""
