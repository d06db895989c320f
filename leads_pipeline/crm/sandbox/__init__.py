"""A local CRM with a vendor's real shapes, limits and failures."""
