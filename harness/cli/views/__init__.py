"""How results are shown on the terminal; a command imports its view when it has something to show."""
