"""What has been acknowledged, and what becomes of every file."""
