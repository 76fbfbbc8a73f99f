"""What is learnt and how: the problem, the dynamics, their time."""
