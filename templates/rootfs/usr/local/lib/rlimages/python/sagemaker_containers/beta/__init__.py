"""The package of the modules that sagemaker_containers offers to scripts."""
