"""What this machine gives: cores, memory, its allocator, the batch job around the process."""
