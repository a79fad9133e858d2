"""Simulate particles of a flexible molecule, with the truth beside them."""
