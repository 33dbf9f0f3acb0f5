"""Differential privacy: the plan, its accounting, and the clipped, noised step."""
