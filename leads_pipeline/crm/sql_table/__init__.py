"""Contacts as rows of a table in any PostgreSQL database."""
