"""What moves when: credits, admission, the intake, how many parsers."""
