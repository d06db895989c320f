"""Everything Dagster: assets, I/O managers, checks, sensors, schedules, resources."""
