"""Content-weighted image compression, after Li et al. (CVPR 2018, arXiv 1703.10553)."""
