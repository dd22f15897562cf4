"""The corpora, one file each, and their registry."""
