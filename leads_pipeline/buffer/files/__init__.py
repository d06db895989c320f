"""Files of leads: CSV, NDJSON and Parquet, each as rows of named values."""
