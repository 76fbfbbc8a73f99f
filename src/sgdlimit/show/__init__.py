"""How arrays are drawn, on paper and on interactive pages."""
