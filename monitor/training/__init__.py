"""From images of good parts to a recipe.

It knows nothing of cameras, lines or the network. No live frame passes here.
"""
