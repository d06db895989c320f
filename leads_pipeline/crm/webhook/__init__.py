"""Contacts as signed events, posted to an address that leads.yaml names."""
