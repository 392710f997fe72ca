"""Benchmarks of the whole service over real sockets: `python -m bench` lists them."""
