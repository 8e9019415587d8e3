"""Other people's loops and engines."""
