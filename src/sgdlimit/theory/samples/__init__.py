"""How a training sample is carried through time."""
