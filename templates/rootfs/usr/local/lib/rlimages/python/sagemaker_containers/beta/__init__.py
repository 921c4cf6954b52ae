"""Where sagemaker_containers kept its interface."""
