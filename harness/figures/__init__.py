"""Figures of a sweep, drawn from its `SearchResult` alone (`harness/records/search.py`). Loads no torch.

One figure a file; `sweep_figures.draw_sweep` draws all that apply.
"""
