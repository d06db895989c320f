"""Zoho CRM as a destination."""
