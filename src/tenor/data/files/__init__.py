"""Files of rows in any format, read as one stream of blocks for training, prediction and the checks."""
