"""Who sends leads: one module a kind of source, on one port. How it proves itself, and how its messages read."""
