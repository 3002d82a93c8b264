"""GGUF: its layout, its reader and its writer."""
