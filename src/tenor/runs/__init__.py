"""Where everything is kept and traced: run directories, manifests, digests, the summary of all runs."""
