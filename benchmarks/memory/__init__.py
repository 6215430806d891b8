"""What memory the engine takes, measured."""
