"""One self-contained HTML page about an experiment or a sweep: table, methods, figures, examples. Loads no torch."""
