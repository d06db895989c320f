"""Scoring pairs of records with Splink, training the model, measuring the result. DuckDB in memory; no database here.

Import ``scoring`` only where pairs are scored: it loads Splink, DuckDB and pandas, which cost seconds.
"""
