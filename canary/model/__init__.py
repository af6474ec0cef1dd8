"""What things are: policies, rollouts, routes, verdicts, annotations, units.

Nothing here reads a file, a clock or a network.
"""
