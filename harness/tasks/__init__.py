"""What is learnt and how it is scored: one file a task, all of them in `registry`."""
