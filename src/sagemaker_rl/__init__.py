"""What training scripts on SageMaker import to train with Ray, Coach or Vowpal Wabbit: see docs/launchers.md.

One folder, two ways to use it. It is installed in every image, found through `sagemaker_rl.pth` in the interpreter's
site-packages: unlike PYTHONPATH, that survives a job or a derived image that sets PYTHONPATH itself, and it comes last
on the path. So a folder `sagemaker_rl` given in `dependencies=[...]`, which lands in /opt/ml/code, goes before it.
This file exists for that reason too: a regular package anywhere would go before a folder without one.

Syntax is Python 3.5's, the oldest interpreter of the images. Importing this package imports no toolkit.
"""
