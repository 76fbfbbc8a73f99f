"""How much to compute for what was promised, and what was reached."""
