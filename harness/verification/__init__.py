"""Whether published numbers follow from their records, and the records from what can be checked. Loads no torch."""
