"""What a loaded model holds, and its runs."""
