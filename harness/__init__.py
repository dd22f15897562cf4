"""Adapters on frozen speech and text models: train, sweep, compare, tabulate."""

__version__ = "0.1.0"
