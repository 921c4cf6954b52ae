"""A build matrix and image factory for reinforcement learning on Amazon SageMaker."""

__version__ = "0.1.0"
