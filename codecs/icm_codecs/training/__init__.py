"""Training: recipes, images, losses and the loop that learned codecs share."""
