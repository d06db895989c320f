"""The product's own processes: what runs beside what, how they are started, watched and stopped."""
