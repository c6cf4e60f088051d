"""Perturbations: pure functions, the generator last."""
