"""The words of the command line, one file per command; what they do is in `tenor.workflows`."""
