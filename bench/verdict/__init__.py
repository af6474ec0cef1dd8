"""The seeded simulator behind every figure about verdicts: `make bench-verdict`.

Whole rollouts of made-up traffic, whose truth is known, go through the product's own judge and, tick for tick the same,
through the rules of other controllers. `scenarios` says what is simulated and what it should come to, `drive` steps a
judge through a rollout, `rivals` holds the other rules, `reference` a second, independent writing of the formulas that
the judge is checked against. It measures the product and must never tune it.
"""
