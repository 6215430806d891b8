"""Benchmarks: each answers one question, prints a table, and writes JSON with the environment."""
