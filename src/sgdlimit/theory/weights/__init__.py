"""The law of a coordinate of the weights, and of w."""
