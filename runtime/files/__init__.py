"""Files: storage, bounded JSON and the GGUF container."""
