"""Pure rules: literals in, values out. No I/O, clock, environment or Dagster."""
