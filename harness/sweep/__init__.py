"""Launching trials: an experiment's arms x seeds, in this process or in several."""
