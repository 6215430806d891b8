"""A seeded storm of signals over running engines: is anything lost, doubled, changed, or stuck?"""
