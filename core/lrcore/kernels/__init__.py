"""The hot loops: one folder a contract, with a plain NumPy definition and its compiled twins."""
