"""`python -m engine.report`: one HTML page of a run."""
