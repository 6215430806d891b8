"""Fleets: how their work is shared out, what a plan says, and how long the last job takes."""
