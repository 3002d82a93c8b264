"""One maker a kind of case: a random model, torch's numbers for it, and the folder that a user would have."""
