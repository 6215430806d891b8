"""How long each command takes before it does something, and what that costs."""
