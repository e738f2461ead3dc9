"""A hyperprior with means and a checkerboard context model in channel groups: the codec for photographs."""
