"""The product as its user meets it: real processes, real ports, real signals."""
