"""The same corpus by other systems, and by ours, side by side."""
