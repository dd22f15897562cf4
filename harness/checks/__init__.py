"""What can be said about finished records: verification against the table, and comparison of two results."""
