"""Encoders of the quantized types and the searches that they share."""
