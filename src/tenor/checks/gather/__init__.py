"""Gathers evidence from the live objects of any PyTorch program, without changing them."""
