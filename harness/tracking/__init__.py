"""Trackers show trials elsewhere than in their records: in Weights & Biases or TensorBoard."""
