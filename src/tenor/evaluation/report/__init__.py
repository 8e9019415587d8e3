"""The HTML report of a run: `run_content` reads the run's folder, `page` renders it; also the index of all runs."""
