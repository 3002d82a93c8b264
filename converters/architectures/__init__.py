"""One converter an architecture, and the configuration they share."""
