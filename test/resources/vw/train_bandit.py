"""Train a policy from the logged decisions of the channel `train`."""

from sagemaker_rl.vw_launcher import train

if __name__ == "__main__":
    train()
