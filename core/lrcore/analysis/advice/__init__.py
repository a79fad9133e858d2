"""Diagnose a step: what is wrong with input, mask, prior or motion, and which change helps."""
