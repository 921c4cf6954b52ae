"""Corrections of SageMaker's training toolkit for the `train` program of the images, one subject a module."""
