"""Tables as pure functions of records. Loads no torch."""
