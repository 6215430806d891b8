"""Compares databases with ledgers and repairs differences."""
