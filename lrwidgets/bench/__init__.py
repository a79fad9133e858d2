"""Benchmarks: each measures and yields records; `lrwidgets bench` prints them as tables or JSON lines."""
