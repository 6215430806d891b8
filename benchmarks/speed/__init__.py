"""How fast the engine and its parts are."""
