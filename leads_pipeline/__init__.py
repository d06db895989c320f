"""Leads from the web to the CRM: none lost, none doubled, never over the CRM's limits."""

__version__ = "0.1.0"
