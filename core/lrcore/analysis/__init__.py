"""Analyse the steps of a run: uncertainty, held-out likelihood, comparison, motion, advice."""
