"""One file a table format."""
