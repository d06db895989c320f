"""The operations web page."""
