"""What note comes next."""
