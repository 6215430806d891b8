"""This machine: cores, memory, the allocator, the batch job of the process."""
