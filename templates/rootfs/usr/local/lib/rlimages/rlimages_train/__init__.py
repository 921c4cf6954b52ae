"""What `train` of these images adds to the toolkit's, one habit of the toolkit a module."""
