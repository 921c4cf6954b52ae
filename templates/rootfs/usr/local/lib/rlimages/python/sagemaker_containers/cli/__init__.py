"""The command-line programs of sagemaker_containers."""
