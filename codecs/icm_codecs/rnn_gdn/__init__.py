"""Image compression with recurrent networks and generalised divisive normalisation (Islam et al., CVPRW 2021)."""
