"""leads.js and the pages in a real Chromium."""
