"""How the pipeline watches itself: what is measured, what was promised, what is done about it, who is told."""
