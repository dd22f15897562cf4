"""Whole commands as a user runs them: killed, out of disk, with files broken, with code of the user's own."""
