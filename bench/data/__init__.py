"""The data engine against its peers, on one input in one run: `python -m bench.data --help`."""
