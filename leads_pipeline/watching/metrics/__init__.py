"""The pipeline as Prometheus sees it, read from PostgreSQL alone: what it exports, and how it is taken."""
