"""The engine in Python: see docs/python-api.md. Everything public is imported from `engine` itself."""
