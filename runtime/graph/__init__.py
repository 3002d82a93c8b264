"""What a model says, the recipe compiled from it and the interpreter of the same graph."""
