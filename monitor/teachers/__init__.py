"""Teachers: the pretrained networks whose features a recipe's student learns."""
