"""Everything that is printed to a terminal: tables, progress, messages."""
