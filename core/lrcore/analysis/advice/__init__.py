"""Diagnose a step: find problems of input, mask, prior and motion, and the change that fixes each."""
