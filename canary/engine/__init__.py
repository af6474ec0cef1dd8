"""What to do next: `step(observed, now)` looks a signal up in one transition table and returns actions.

Pure and total. Nothing here reads a clock, a file or a network, and nothing raises on any observation.
"""
