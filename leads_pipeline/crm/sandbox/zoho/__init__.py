"""Zoho CRM, played."""
