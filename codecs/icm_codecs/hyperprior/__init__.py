"""The mean and scale hyperprior of Minnen et al. (NeurIPS 2018, arXiv 1809.02736), with one model for every rate."""
