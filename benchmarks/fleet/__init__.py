"""Fleets: how their work is shared out, and how long their last job takes."""
