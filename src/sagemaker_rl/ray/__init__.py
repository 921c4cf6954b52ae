"""Ray RLlib: the launcher of training jobs and the model that the server loads."""
