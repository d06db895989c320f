"""What a lead's data is worth: providers and their budgets. Local checks live in ``domain``."""
