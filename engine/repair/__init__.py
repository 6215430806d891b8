"""Compares databases with ledgers and makes them agree again."""
