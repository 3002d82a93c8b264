"""Vocabularies and tokenizers of checkpoints."""
