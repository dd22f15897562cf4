"""The search of a sweep: which trial is next, as a pure function of the trials that have ended."""
