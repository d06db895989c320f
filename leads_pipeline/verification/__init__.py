"""What others know of an address: DNS, and providers that are paid for each answer. Local checks live in ``domain``."""
