"""Dagster: assets, checks, sensor, schedules, as real runs on a real database."""
