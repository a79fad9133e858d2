"""Measure speed and memory. Each benchmark yields measurements, which `lrwidgets bench` prints."""
