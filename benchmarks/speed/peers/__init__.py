"""Other systems over the same corpus, for their speed: programs that run in environments of their own."""
