"""What was trained: the recipe and its weights."""
