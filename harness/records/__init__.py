"""What finished trials leave on disk, and how it is read back. Loads no torch."""
