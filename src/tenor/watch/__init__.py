"""The checks in other people's programs, which stay as they are: `tenor watch -- python train.py`."""
