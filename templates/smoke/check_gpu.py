"""Check that the framework can use every GPU of the machine."""

import glob
import json
import sys

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)


def seen(framework):
    """Return how many GPUs the framework can use."""
    if framework == "torch":
        import torch

        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if framework == "mxnet":
        import mxnet

        return mxnet.context.num_gpus() if hasattr(mxnet.context, "num_gpus") else len(mxnet.test_utils.list_gpus())
    from tensorflow.python.client import device_lib

    return sum(device.device_type == "GPU" for device in device_lib.list_local_devices())


def main():
    if CELL["processor"] != "gpu":
        print("the image has no GPU support")
        return 77
    if not CELL["framework"]:
        print("the image has no framework")
        return 77
    devices = glob.glob("/dev/nvidia[0-9]*")
    if not devices:
        print("this machine has no GPU")
        return 77
    count = seen(CELL["framework"]["name"])
    print("%s sees %d of %d GPUs" % (CELL["framework"]["name"], count, len(devices)))
    return 0 if count == len(devices) else 1


sys.exit(main())
