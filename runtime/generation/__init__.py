"""Tokens one after the other: options, sampling, beams, the loop, streams and results."""
