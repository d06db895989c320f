"""Contacts as lines of files in a folder."""
