"""The scale hyperprior codec of Ballé et al. (ICLR 2018, arXiv 1802.01436), with one model for every rate."""
