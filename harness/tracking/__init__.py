"""Where a trial's events go besides its record: a null tracker, Weights & Biases, or several at once."""
