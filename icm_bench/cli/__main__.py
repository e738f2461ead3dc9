"""``python -m icm_bench.cli``."""

from icm_bench.cli import main

main()
