"""What the numbers say: windows of counts and a policy in, a verdict with its sentence out.

Pure mathematics without a clock, I/O or numpy. Start at `judge`.
"""

from canary.analysis.judge import Judge

__all__ = ["Judge"]
