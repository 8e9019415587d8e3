"""`tenor serve`: a model over HTTP. `routes` answers, `row_queue` and `workers` batch and compute, `guards` limits."""
