"""What a visitor looks at next."""
