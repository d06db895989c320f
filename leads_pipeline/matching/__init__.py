"""Who is who: blocking keys, Splink scoring, training and evaluation."""
