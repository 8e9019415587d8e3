"""Evidence from the live objects of any PyTorch program; nothing here changes what it looks at."""
