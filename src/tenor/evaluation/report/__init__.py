"""A run as one HTML file that explains itself: `collect` reads what the folder holds, `write` makes the page."""
