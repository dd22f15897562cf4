"""Run a sweep: plan it, search, race the best settings over more seeds, confirm the winners, tell how it goes."""
