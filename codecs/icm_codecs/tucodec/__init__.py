"""A variational auto-encoder whose quality is a target rate, after TuCodec (Zhou et al., CLIC 2018)."""
