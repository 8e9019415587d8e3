"""The command line, one file per command; what the commands do is in `tenor.workflows`."""
