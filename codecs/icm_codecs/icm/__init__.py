"""The codec for machines: a hyperprior with a region of interest, layers of detail, and staged training."""
