"""Fleets: simulated ones by the thousand, and one task's estimate against its run."""
