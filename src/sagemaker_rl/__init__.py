"""Train with Ray, Coach or Vowpal Wabbit on SageMaker, and serve the models: see docs/launchers.md, docs/serving.md.

Every image has this package, and `sagemaker_rl.pth` in the interpreter's site-packages puts its folder last on the
import path. Unlike PYTHONPATH, a .pth file still works where a job or a derived image sets PYTHONPATH itself. A folder
`sagemaker_rl` given to the SDK in `dependencies=[...]` is copied to /opt/ml/code, which comes first on the path, and so
replaces this package. This file is needed for that: Python prefers a package with an `__init__.py` to one without.

The syntax is that of Python 3.5, the oldest interpreter of the images. An image gets the common modules, `serving`
and the folder of its own toolkit; so modules of one toolkit import none of another's. Importing this package imports
no toolkit. All imports are absolute, and programs are started with `python -m`: started by path, `sagemaker_rl/`
would come first on the import path and its folder `ray` would hide the toolkit `ray`.
"""
