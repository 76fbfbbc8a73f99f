"""Where the equations close: the linear model, one pass, discrete time."""
