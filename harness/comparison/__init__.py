"""Two experiments, results folders or arms side by side, paired where seeds and items are shared. Loads no torch."""
