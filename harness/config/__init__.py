"""What a user may write, typed and checked. Loads no torch."""
