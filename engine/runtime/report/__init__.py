"""What a run tells: progress, status, summary, efficiency."""
